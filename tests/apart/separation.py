"""Sites that share nothing: each has a network, a user and a file tree of its own, on one Linux machine.

A site is a network namespace with one link, to a bridge that leads nowhere else; a user that nobody else is;
and a mount namespace in which ``/tmp`` and the folders of people are empty but for the site's own folder and,
read-only, the programs. So a path of one site means nothing at another, and only HTTP leads there.

``scripts/conformance`` uses it too, so it needs nothing but the standard library. It must not know what runs
at a site.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "mount", "openssl")
HIDDEN = ("/tmp", "/var/tmp", "/dev/shm", "/root", "/home", "/mnt", "/run/user")
"""What two users of a machine might both see, and what leads from one to the other."""
NETWORK = "10.77.0"
_CLONE_NEWNET = 0x40000000
_ENTER = r"""
set -eu
# arguments: UID FOLDER PLACE, the folders to show, --, the command
user=$1 folder=$2 place=$3
shift 3
mount -t tmpfs -o mode=755 stage /mnt
number=0
mkdir /mnt/own && mount --bind "$folder" /mnt/own
while [ "$1" != -- ]; do
    number=$((number + 1))
    mkdir "/mnt/$number" && mount --bind "$1" "/mnt/$number"
    eval "shown_$number=\$1"
    shift
done
shift
for hidden in HIDDEN; do
    [ "$hidden" != /mnt ] && [ -d "$hidden" ] || continue
    case $hidden in /root | /home | /run/*) mode=755 ;; *) mode=1777 ;; esac
    mount -t tmpfs -o "mode=$mode" hidden "$hidden"
done
mkdir -p "$place" && mount --move /mnt/own "$place"
while [ "$number" -gt 0 ]; do
    eval "path=\$shown_$number"
    if [ ! -e "$path" ]; then
        (umask 022 && mkdir -p "$path")
        mount --move "/mnt/$number" "$path"
        mount -o remount,bind,ro "$path"
    else
        umount "/mnt/$number"
    fi
    number=$((number - 1))
done
umount /mnt
mount -t tmpfs -o mode=755 hidden /mnt
cd "$place"
exec setpriv --reuid "$user" --regid "$user" --clear-groups -- "$@"
""".replace("HIDDEN", " ".join(HIDDEN))


def why_not() -> str | None:
    """What is missing here for sites that share nothing; None when nothing is."""
    if os.geteuid() != 0:
        return "only root can make network namespaces and be other users"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not here: {', '.join(missing)}"
    bridge = ["ip", "link", "add", "br0", "type", "bridge"]
    tried = subprocess.run(["unshare", "--net", *bridge], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespace with a bridge can be made here: {tried.stderr.strip()}"
    return None


class Network:
    """A network namespace, which is there as long as a process of ours is in it: nothing of it is left."""

    def __init__(self) -> None:
        words = ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", "sleep", "infinity"]
        self._holder = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        ours = Path("/proc/self/ns/net").readlink()
        while self.path.readlink() == ours or self._word != "sleep":
            if self._holder.poll() is not None:
                raise OSError("no network namespace can be made")
            time.sleep(0.01)

    @property
    def _word(self) -> str:
        return Path(f"/proc/{self.pid}/comm").read_text().strip()

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._holder.pid

    @property
    def path(self) -> Path:
        """Where it can be entered."""
        return Path(f"/proc/{self.pid}/ns/net")

    def words(self, *command: str) -> list[str]:
        """The command that runs another one in it."""
        return ["nsenter", f"--net={self.path}", *command]

    def ip(self, *words: str) -> None:
        """Change something of it."""
        done = subprocess.run(self.words("ip", *words), capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def close(self) -> None:
        """End it."""
        self._holder.kill()
        self._holder.wait()


class Site:
    """One site.

    Args:
        name: what it is called.
        network: its network.
        address: its only one, besides loopback.
        user: whose processes are there, and nobody else's.
        folder: its own, as root sees it.
        shown: folders with programs that it sees, though they are where sites see nothing.

    Attributes:
        place: the same folder, as the site's processes see it.
    """

    def __init__(
        self, name: str, network: Network, address: str, user: int, folder: Path, shown: Sequence[Path]
    ) -> None:
        self.name = name
        self.network = network
        self.address = address
        self.user = user
        self.folder = folder
        self._shown = shown
        self.place = Path("/tmp", f"site-{name}")
        folder.mkdir(mode=0o700)
        self.own(folder)

    def own(self, path: Path) -> Path:
        """Give a file or folder of ours, which is in the site's folder, to the site's user."""
        os.chown(path, self.user, self.user)
        return path

    def write(self, name: str, text: str) -> Path:
        """A file that only the site can read; its path there."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        self.own(path)
        return self.place / name

    def words(self, command: Sequence[str], show: Sequence[Path] = ()) -> list[str]:
        """The command that runs a command there, as the site's user.

        Args:
            command: to run; paths in it are the site's.
            show: further folders with programs that it needs.
        """
        shown = [str(path) for path in outermost([*self._shown, *show])]
        inside = ["sh", "-c", _ENTER, "enter", str(self.user), str(self.folder), str(self.place), *shown]
        apart = ["unshare", "--mount", "--ipc", "--propagation", "private"]
        return self.network.words(*apart, *inside, "--", *command)

    def environment(self, **more: str) -> dict[str, str]:
        """What its processes know of the environment."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        home = {"HOME": str(self.place), "TMPDIR": "/tmp"}
        return kept | home | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"} | more

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread's new sockets, and processes that it starts, are in the site's network meanwhile."""
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.network.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(there, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")
            try:
                yield
            finally:
                if libc.setns(before, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "there is no way back out of the network namespace")
        finally:
            os.close(there)
            os.close(before)

    def processes(self) -> list[int]:
        """All processes of the site's user."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == self.user:
                    found.append(int(entry.name))
        return found

    def die(self) -> None:
        """The power goes, and the disk with it: no process is left, and nothing can be read."""
        self.kill()
        shutil.rmtree(self.folder)
        self.network.ip("link", "set", "eth0", "down")

    def kill(self) -> None:
        """End all its processes at once."""
        for _ in range(200):
            there = [pid for pid in self.processes() if not _is_zombie(pid)]
            if not there:
                return
            for pid in there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise OSError(f"processes of {self.name} cannot be ended")


class Separation:
    """Sites, and the bridge between them, until it is closed.

    Args:
        folder: for the sites' folders; root's own.
        python: whose programs sites see, and this repository.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self._shown = programs(python)
        self.sites: dict[str, Site] = {}
        self._hub = Network()
        self._users = 1_000_000 + os.getpid() * 16
        self._hub.ip("link", "add", "br0", "type", "bridge")
        self._hub.ip("link", "set", "br0", "up")

    def site(self, name: str) -> Site:
        """A further site."""
        number, network = len(self.sites) + 1, Network()
        address = f"{NETWORK}.{number}"
        found = Site(name, network, address, self._users + number, self.folder / name, self._shown)
        self.sites[name] = found
        ours = ("link", "add", f"v{number}", "type", "veth")
        self._hub.ip(*ours, "peer", "name", "eth0", "netns", str(network.pid))
        self._hub.ip("link", "set", f"v{number}", "master", "br0", "up")
        network.ip("address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            network.ip("link", "set", device, "up")
        return found

    def cut(self, name: str) -> None:
        """Pull a site's plug out of the bridge: nobody is told."""
        self._hub.ip("link", "set", f"v{list(self.sites).index(name) + 1}", "down")

    def close(self) -> None:
        """End everything."""
        for site in self.sites.values():
            site.kill()
        for network in (*(site.network for site in self.sites.values()), self._hub):
            network.close()
        for site in self.sites.values():
            shutil.rmtree(site.folder, ignore_errors=True)


class Authority:
    """Certificates for the sites, which believe this authority and no other.

    Args:
        folder: for its key.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._key, self.certificate = folder / "ca.key", folder / "ca.pem"
        self._openssl("-x509", "-subj", "/CN=sites", "-keyout", self._key, "-out", self.certificate)

    def certify(self, site: Site) -> dict[str, str]:
        """Put a certificate for a site's address into its folder; as the setting ``tls``."""
        key, certificate = site.folder / "tls.key", site.folder / "tls.pem"
        by = ("-CA", self.certificate, "-CAkey", self._key)
        for_address = ("-subj", f"/CN={site.name}", "-addext", f"subjectAltName=IP:{site.address}")
        not_one = ("-addext", "basicConstraints=CA:FALSE")
        self._openssl("-x509", *by, *for_address, *not_one, "-keyout", key, "-out", certificate)
        for path in (key, certificate):
            site.own(path)
        site.write("ca.pem", self.certificate.read_text())
        return {"certificate": str(site.place / "tls.pem"), "key": str(site.place / "tls.key")}

    @staticmethod
    def _openssl(*words: str | Path) -> None:
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        done = subprocess.run(["openssl", "req", *kind, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"openssl makes no certificate: {done.stderr.strip()}")


def programs(python: str) -> list[Path]:
    """What a Python is made of, the programs beside it, and this repository."""
    ask = "import sys; print(*filter(None, [sys.prefix, sys.base_prefix, *sys.path]), sep='\\n')"
    told = subprocess.run(
        [python, "-I", "-c", ask], cwd="/", capture_output=True, text=True, check=True
    ).stdout
    return [REPOSITORY, *(Path(line) for line in told.splitlines() if Path(line).is_dir())]


def outermost(paths: Sequence[Path]) -> list[Path]:
    """Those that are below no other one, the real places of links included."""
    every = dict.fromkeys([*paths, *(path.resolve() for path in paths)])
    return [
        path for path in every if not any(path.is_relative_to(other) and path != other for other in every)
    ]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def started(
    site: Site, command: Sequence[str], log: Path, env: Mapping[str, str], show: Sequence[Path] = ()
) -> subprocess.Popen[str]:
    """Start a server at a site; its standard output is to be read, the rest goes to ``log``."""
    return subprocess.Popen(
        site.words(command, show),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log.open("a"),
        text=True,
        env=dict(env),
    )
