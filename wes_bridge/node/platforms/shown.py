"""What a sandbox shows of the machine: the system's programs, and the tools of the node's own user.

It must know nothing of steps: what a step says shows nothing. It names paths only; the sandboxes mount them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterable, Sequence
from pathlib import Path

from wes_bridge.config import SHOWN_SYSTEM

_PROGRAMS = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/cvmfs"),
    *("/nix/store", "/gnu/store", "/run/current-system", "/var/guix/profiles"),
    *("/var/lib/texmf", "/var/cache/fontconfig", "/var/lib/ca-certificates"),  # made by packages
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),  # how many processors there are
)
_SETTINGS = """
ld.so.cache ld.so.conf ld.so.conf.d ld.so.preload ld-musl-*.path alternatives java* .java
passwd group nsswitch.conf hosts host.conf hostname resolv.conf gai.conf protocols services networks rpc
ssl/certs ssl/openssl.cnf ssl/cert.pem ssl/ca-bundle.pem ca-certificates ca-certificates.conf
pki/tls/certs pki/tls/cert.pem pki/tls/openssl.cnf pki/ca-trust pki/java crypto-policies
localtime timezone locale.alias locale.conf default/locale os-release debian_version redhat-release
system-release lsb-release fonts pango mime.types magic magic.mime papersize paperspecs texmf terminfo inputrc
shells profile profile.d bash.bashrc bashrc manpath.config login.defs
python* perl R julia gdal* ImageMagick* ghostscript matplotlibrc jupyter ipython
OpenCL openmpi* mpich* libibverbs.d nvidia vulkan glvnd egl drirc X11 modulefiles environment-modules lmod nix
"""
"""Below ``/etc``: what programs read, and no more. Keys, passwords and services' settings are not here."""
_OF_PREFIX = (
    *("bin", "sbin", "lib", "lib32", "lib64", "libexec", "include"),
    *("shims", "versions", "version", "plugins"),  # pyenv and its kin
)
"""What programs need of a folder that has other things in it, too."""
_WIDE = frozenset(
    ("/", "/tmp", "/etc", "/var", "/run", "/proc", "/sys", "/dev", "/home", "/root", "/mnt", "/media", "/srv")  # noqa: S108
)
_PRIVATE = tuple(Path(path) for path in ("/etc", "/var", "/run", "/proc", "/sys", "/dev", "/boot"))
COVERED = tuple(Path(path) for path in ("/tmp", "/dev", "/proc"))  # noqa: S108
"""What a sandbox has of its own, in front of the machine's."""
_PATH_LINES = 64 << 10
"""Bytes of a ``.pth`` file that are read."""


def system() -> list[Path]:
    """The programs and libraries of the system, and the settings that they read; what there is of them."""
    found = [Path(path) for path in _PROGRAMS]
    settings = Path("/etc")
    for pattern in _SETTINGS.split():
        found += sorted(settings.glob(pattern)) if "*" in pattern else [settings / pattern]
    return [path for path in found if os.path.lexists(path)]


def expanded(setting: Sequence[str]) -> list[str]:
    """The paths that the setting ``sandbox_shows`` stands for."""
    paths: list[Path] = []
    for word in setting:
        paths += system() if word == SHOWN_SYSTEM else [Path(word)]
    return [str(path) for path in _without_nested(paths)]


def tools(path: str, shows: Sequence[str], hides: Sequence[Path]) -> list[str]:
    """What the programs on a ``PATH`` need that would not be seen: a virtual environment, for example.

    Args:
        path: the node's own; never a step's.
        shows: what can be seen already.
        hides: folders that must not be seen, nor what is around them.
    """
    search = _Search([Path(shown) for shown in shows], hides)
    for word in path.split(os.pathsep):
        if word.startswith("/") and os.path.isdir(word):  # noqa: PTH112
            search.add_programs(Path(os.path.normpath(word)))
    return [str(found) for found in _without_nested(search.found)]


def around(program: Path, shows: Sequence[str], hides: Sequence[Path]) -> list[str]:
    """What to show so that a program works; empty where too much else would be seen with it.

    Args:
        program: its path.
        shows: what can be seen already.
        hides: folders that must not be seen.
    """
    found = tools(str(program.parent), shows, hides)
    if is_below(program, found):
        return found
    search = _Search([Path(shown) for shown in shows], hides)
    return [] if search.is_wide(program.parent) else [str(program.parent)]


def is_below(path: Path, shows: Iterable[str | Path]) -> bool:
    """Whether a path is shown, as it is written.

    With texts: each step asks this of a hundred paths, for which pathlib took half of the time of its start.
    """
    text = str(path)
    return any(text == top or text.startswith(top.rstrip("/") + "/") for top in map(str, shows))


def stays_link(path: str, shows: Iterable[str]) -> bool:
    """Whether a path that is shown is a link to what is shown, too, or leads nowhere.

    Any other is shown with what it leads to, as ``/etc/resolv.conf`` with a file below ``/run``.
    """
    if not os.path.islink(path):  # noqa: PTH114
        return False
    others = [shown for shown in shows if shown != path]
    return is_below(_real(Path(path)), others) or not os.path.exists(path)  # noqa: PTH110


class _Search:
    """Gathers folders; what was looked at is not looked at again."""

    def __init__(self, shows: list[Path], hides: Sequence[Path]) -> None:
        self.found: list[Path] = []
        self._shows = shows
        self._hides = [place for folder in hides for place in {folder, _real(folder)}]
        self._homes = {Path(os.path.expanduser("~"))}  # noqa: PTH111
        with contextlib.suppress(KeyError):  # a user without a name, as in many containers
            self._homes.add(Path(pwd.getpwuid(os.geteuid()).pw_dir))
        self._homes |= {_real(home) for home in self._homes}
        self._done: set[Path] = set()

    def add_programs(self, folder: Path) -> None:
        """Show a folder of programs, with what is around it as far as it belongs to them."""
        if folder in self._done or self._is_shown(folder):
            return
        self._done.add(folder)
        top = folder.parent if folder.name in ("bin", "sbin", "shims", "condabin") else folder
        if self._belongs(top):
            self._add(top)
        else:
            self._add(folder)
            for name in _OF_PREFIX if top != folder and not self.is_wide(top) else ():
                if (top / name).exists():
                    self._add(top / name)
        self._follow_environment(top)
        self._follow_links(folder)
        if _is_environment(top) and _real(top) != top:  # its scripts may name it by either of its names
            self.add_programs(_real(top) / folder.relative_to(top))

    def _belongs(self, top: Path) -> bool:
        """Whether all of a folder are programs and what they need."""
        if self.is_wide(top):
            return False
        if _is_environment(top):
            return True
        home = next((home for home in self._homes if top.is_relative_to(home)), None)
        if home is None:
            return len(top.parts) > 2
        inside = top.relative_to(home).parts
        is_program = (top / "bin").is_dir() and any((top / name).is_dir() for name in ("lib", "lib64"))
        return is_program and not any(part.startswith(".") for part in inside)

    def _follow_environment(self, top: Path) -> None:
        """What a Python environment says that it needs: the Python it was made of, folders of sources."""
        for line in _lines(top / "pyvenv.cfg"):
            name, _, value = line.partition("=")
            if name.strip() == "home" and value.strip().startswith("/"):
                self.add_programs(Path(value.strip()))
                self.add_programs(_real(Path(value.strip())))
        for packages in top.glob("lib/python3*/site-packages"):
            for file in packages.glob("*.pth"):
                for line in _lines(file):
                    if line.startswith("/") and Path(line).is_dir() and not self.is_wide(Path(line)):
                        self._add(Path(line))

    def _follow_links(self, folder: Path) -> None:
        """Where the programs really are that a folder links to, as those of pipx are."""
        try:
            entries = [entry for entry in os.scandir(folder) if entry.is_symlink()]
        except OSError:
            return
        for entry in entries:
            target = _real(Path(entry.path))
            if self._is_shown(target) or not target.exists():
                continue
            around = next((above for above in list(target.parents)[:4] if _is_environment(above)), None)
            if around is not None:
                self.add_programs(around / "bin")
            elif target.is_file():
                self._add(target)

    def _add(self, path: Path) -> None:
        """Show a path; never what is private, and nothing around what is hidden."""
        for place in {path, _real(path)}:
            at_home = any(place.is_relative_to(home) for home in self._homes)
            if self.is_wide(place) or (is_below(place, _PRIVATE) and not at_home):
                return
            if any(place.is_relative_to(hidden) for hidden in self._hides):
                return
        if not self._is_shown(path):
            self.found.append(path)

    def is_wide(self, path: Path) -> bool:
        """Whether there are other things in it: someone's home, what is hidden, the machine."""
        real = _real(path)
        if str(path) in _WIDE or str(real) in _WIDE:
            return True
        return any(
            kept.is_relative_to(place) for kept in (*self._homes, *self._hides) for place in (path, real)
        )

    def _is_shown(self, path: Path) -> bool:
        return is_below(path, self.found) or (is_below(path, self._shows) and not is_below(path, COVERED))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            return opened.read(_PATH_LINES).decode(errors="replace").splitlines()
    except OSError:
        return []


def _without_nested(paths: Iterable[Path]) -> list[Path]:
    """Each path once, and none below another; shown are folders with all that is in them."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept
