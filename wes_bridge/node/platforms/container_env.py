"""A container's environment, told to the engine without anybody else reading or obeying it.

All users of the machine can read a command line, so values are in a file that only ours can read. Its format
takes no line's end, and engines do not agree on more than simple values. Others go by the engine's own
environment, of which its command line says the names only, unless the engine itself, or the programs and
libraries it uses, could obey the variable: such a value is on the command line, as it must not act on the
engine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Others are no names for shells; an engine takes ``A*`` for all of its own that begin with A."""
_SIMPLE = re.compile(r"[^\x00-\x1f\x7f\"'\\`$\s#](?:[^\x00-\x1f\x7f\"'\\`$]*[^\x00-\x1f\x7f\"'\\`$\s])?")
"""What every version of every engine reads as it is written."""
_LONGEST = 16_384
"""Letters of a line that every engine reads."""
_OBEYED = re.compile(
    r"(?:_|LD_|DYLD_|GLIBC|MALLOC|GCONV|LOCPATH|NLSPATH|RES_|HOSTALIASES|LOCALDOMAIN|TZ|TMP|TEMP|HOME|PATH|USER|"
    r"LOGNAME|SHELL|PWD|OLDPWD|XDG_|DBUS_|NOTIFY|LISTEN|MAINPID|WATCHDOG|CONTAINER|PODMAN|BUILD|DOCKER|COMPOSE|"
    r"OCI|CRUN|RUNC|CONMON|STORAGE|REGISTR|GO[A-Z]|CGO|SSL_|SSH_|GPG|GNUPG|CURL|HTTP|ALL_PROXY|NO_PROXY|FTP|CNI|"
    r"NETAVARK|AARDVARK|SLIRP|PASTA|NSS|BASH|ENV|IFS|CDPATH|PYTHON|PERL|NODE|JAVA|FUSE|SYSTEMD|JOURNAL|INVOCATION|"
    r"MOUNT|LIBPOD|CRIO|KUBE|WES_BRIDGE|OTEL|AWS_|LANG|LC_|LIBC|CORE|QEMU|TUNABLES)",
    re.IGNORECASE,
)


@dataclass
class Environment:
    """How the engine is told.

    Attributes:
        words: options for its command line.
        lines: of a file; none when there is nothing to say there.
        own: to be added to the engine's own environment.
    """

    words: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)

    def write(self, file: Path) -> list[str]:
        """Write the file; the options for the command line."""
        if not self.lines:
            return self.words
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as opened:
            opened.write("".join(f"{line}\n" for line in self.lines))
        return ["--env-file", str(file), *self.words]


def told(environment: Mapping[str, str]) -> Environment:
    """How an environment is told."""
    found = Environment()
    for name, value in environment.items():
        if _NAME.fullmatch(name) is None:
            found.words += ["--env", f"{name}={value}"]
        elif _is_simple(value) and len(name) + len(value) < _LONGEST:
            found.lines.append(f"{name}={value}")
        elif _OBEYED.match(name) is None:
            found.words += ["--env", name]
            found.own[name] = value
        else:
            found.words += ["--env", f"{name}={value}"]
    return found


def _is_simple(value: str) -> bool:
    if not value:
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return value.isprintable() and _SIMPLE.fullmatch(value) is not None
