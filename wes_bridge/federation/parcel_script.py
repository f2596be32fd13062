"""The shell script around a command on a broker that shares nothing with us and gives nothing back.

It runs in the step's container, whose image needs a POSIX ``sh`` with ``mkdir``, ``cat``, ``wc`` and ``rm``,
and one of the ways to send (``WAYS``). It says that it begins, puts the inputs in their places, runs the
command, and sends what that left: as a tar archive where there is a ``tar``, else as a pack that it writes
itself. It tries to send for minutes. It must not know what is at the other end of the URLs.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from wes_bridge.data.parcels import ALIVE, ALL, BEGAN, SCRIPT, STDERR, STDOUT, STOP
from wes_bridge.federation.wrapper import CANNOT_TIME, CONTENT, NOTES, watched

WAYS = "curl, GNU wget, python3, or (for http only) nc, busybox or bash"
"""What an image must have one of, in words."""
MISSING, UNUSABLE, UNSENT = "missing", "unusable", "unsent"
"""Words of END: an input is not there; the image cannot be used; what the command left could not be sent."""
HEARTBEAT = 5
"""Seconds between questions whether to go on."""
TRIES = 12
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
BOOT = f'f=$1/{SCRIPT};[ -d "$f" ]&&f=$f/{CONTENT};[ -f "$f" ]&&exec sh "$f" "$1";exit 1'
"""The command that the broker is told: it finds the script. At most 255 letters."""


@dataclass(frozen=True)
class Put:
    """Something at its place before the command begins; all paths are below ``root``.

    Attributes:
        path: the place.
        contents: of a literal; None for all else.
        directory: an empty one, where there is no ``fetched``.
        fetched: name, in the folder of what the broker fetched; None: it is not fetched.
        together: name in the archive of all; None: it is not in it.
        copied: whether the command may change it.
        executable: whether it may be run.
        number: names it where it is missing.
    """

    path: str
    contents: str | None = None
    directory: bool = False
    fetched: str | None = None
    together: str | None = None
    copied: bool = False
    executable: bool = False
    number: int = 0


@dataclass(frozen=True)
class Sending:
    """What the script runs, and where it sends.

    Attributes:
        argv, environment, workdir, stdin: of the command.
        root: below which all paths lie; the script may put it elsewhere, and then changes all of them.
        stdout, stderr: absolute paths.
        streams: which of the two are sent by themselves.
        puts: what is put in its place, in this order.
        fetched: folder of what the broker fetched, as the broker is told.
        archive: name there of the archive of all; None: there is none.
        before, after: URL before and after the name of a part.
        time_limit: seconds, or None.
    """

    argv: list[str]
    environment: dict[str, str]
    workdir: str
    stdin: str | None
    root: str
    stdout: str
    stderr: str
    streams: list[str]
    puts: list[Put]
    fetched: str
    archive: str | None
    before: str
    after: str
    time_limit: int | None = None


def parcel_script(what: Sending) -> str:
    """The script; its one argument is the folder of what was fetched. It always exits 0, since the broker
    leaves containers behind that do not: that nothing came says that it could not send."""
    return "\n".join([*_head(what), *_begin(what), *_inputs(what), *_running(what)]) + "\n"


class _Quote:
    """Words for the shell, in which the root is wherever the script has put it."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __call__(self, text: str) -> str:
        quoted = "'" + text.replace("'", "'\"'\"'") + "'"
        return quoted.replace(self._root, "'\"$wb_root\"'")


def _head(what: Sending) -> list[str]:
    inner = what.fetched.removeprefix(what.root)
    return [
        "# Written by wes-bridge: runs one step, and sends what it leaves to the service.",
        f"wb_got=$1; wb_root=${{1%{inner}}}",
        f'wb=$wb_root/{NOTES}; ( mkdir -p "$wb" && : >"$wb/write" ) 2>/dev/null || {{',
        "  # the image's user may not write there: all paths change",
        f'  wb_root=${{TMPDIR:-/tmp}}{what.root}; wb=$wb_root/{NOTES}; mkdir -p "$wb" || exit 0; }}',
    ]


_FUNCTIONS = r"""
wb_has() { command -v "$1" >/dev/null 2>&1; }

# FILE NAME QUERY: sends a file once, and prints the answer
wb_put() {
  case $wb_by in
    curl) curl -sSf -H Expect: --connect-timeout 30 --speed-limit 1 --speed-time 120 -T "$1" \
      "$wb_before$2$wb_after$3" ;;
    wget) wget -q -O - -T 120 -t 1 --method=PUT --body-file="$1" "$wb_before$2$wb_after$3" ;;
    python3) python3 -I -c "$wb_python" "$1" "$wb_before$2$wb_after$3" ;;
    *) rm -f "$wb/heard-$2"
      { printf 'PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' \
          "$wb_path$2$wb_after$3" "$wb_netloc" "$(($(wc -c <"$1")))"
        cat "$1"; wb_hold "$wb/heard-$2"
      } | wb_net | ( wb_hear; wb_heard=$?; : >"$wb/heard-$2"; exit $wb_heard ) ;;
  esac
}
wb_net() {
  case $wb_by in
    nc) nc -w 120 "$wb_host" "$wb_port" ;;
    busybox) busybox nc -w 120 "$wb_host" "$wb_port" ;;
    bash) bash -c 'exec 3<>"/dev/tcp/$0/$1" && cat >&3 && cat <&3' "$wb_host" "$wb_port" ;;
  esac
}
# nc closes its half of the connection where its input ends, which servers take for a client that has gone
wb_hold() {
  [ "$wb_by" = bash ] && return
  wb_held=0
  until [ -e "$1" ] || [ "$wb_held" -ge 1200 ]; do
    wb_held=$((wb_held + 1)); sleep 0.1 2>/dev/null || sleep 1
  done
}
wb_hear() {
  read -r wb_word wb_status wb_word || return 1
  while IFS= read -r wb_line; do [ -z "${wb_line%"$wb_cr"}" ] && break; done
  cat
  case $wb_status in 2*) return 0 ;; esac
  echo "the service answered $wb_status" >&2; return 1
}

# FILE: prints its checksum for a query, where something here can compute one
wb_sum() {
  if wb_has sha256sum; then wb_hex=$(sha256sum <"$1")
  elif wb_has python3; then wb_hex=$(python3 -I -c "$wb_python_sum" "$1")
  elif wb_has openssl; then wb_hex=$(openssl dgst -sha256 -r <"$1")
  else wb_hex=; fi 2>/dev/null
  wb_hex=${wb_hex%% *}
  [ ${#wb_hex} -eq 64 ] && echo "&sha256=$wb_hex"
}

# FILE NAME: sends a file, if need be again and again
wb_send() {
  wb_try=0; wb_wait=1; wb_checked=$(wb_sum "$1")
  until wb_answer=$(wb_put "$1" "$2" "$wb_checked" 2>"$wb/error"); do
    wb_try=$((wb_try + 1)); [ "$wb_try" -ge "$wb_tries" ] && return 1
    sleep "$wb_wait" 2>/dev/null; [ "$wb_wait" -lt 60 ] && wb_wait=$((wb_wait * 2))
  done
}

# WORDS: says how it ended
wb_end() {
  { echo "$1"; echo "root $wb_root"; } >"$wb/end"
  wb_send "$wb/end" end
  exit 0
}

# DIRECTORY PREFIX: writes a pack of what is in it, which wes_bridge/data/unpacking.py reads
wb_walk() (
  cd "$1" || exit 1
  for wb_f in * .[!.]* ..?*; do
    [ -e "./$wb_f" ] || [ -L "./$wb_f" ] || continue
    wb_p=$2$wb_f
    if [ -L "./$wb_f" ]; then
      wb_t=$(readlink "./$wb_f" && echo .) || exit 1
      wb_t=${wb_t%??}
      printf 'L %s %s\n%s%s' ${#wb_p} ${#wb_t} "$wb_p" "$wb_t"
    elif [ -d "./$wb_f" ]; then
      printf 'D %s\n%s' ${#wb_p} "$wb_p"
      wb_walk "./$wb_f" "$wb_p/" || exit 1
    elif [ -f "./$wb_f" ]; then
      wb_x=-; [ -x "./$wb_f" ] && wb_x=x
      wb_s=$(wc -c <"./$wb_f") || exit 1
      printf 'F %s %s %s\n%s' $wb_x $((wb_s)) ${#wb_p} "$wb_p"
      cat "./$wb_f" || exit 1
    elif [ -p "./$wb_f" ]; then printf 'O fifo %s\n%s' ${#wb_p} "$wb_p"
    else printf 'O other %s\n%s' ${#wb_p} "$wb_p"; fi
  done
)

# DIRECTORY: sends what is in it
wb_send_all() {
  if wb_has tar && tar -cf "$wb/out.tar" -C "$1" . 2>"$wb/error"; then wb_part=out.tar
  else
    wb_part=out.pack; rm -f "$wb/out.tar"
    ( LC_ALL=C; export LC_ALL; wb_walk "$1" '' && echo E ) >"$wb/out.pack" 2>"$wb/error" || return 1
  fi
  wb_send "$wb/$wb_part" "$wb_part" && rm -f "$wb/$wb_part"
}
"""
_PYTHON = """
import os, sys, urllib.request as web
with open(sys.argv[1], "rb") as file:
    size = {"Content-Length": str(os.path.getsize(sys.argv[1]))}
    request = web.Request(sys.argv[2], data=file, method="PUT", headers=size)
    sys.stdout.write(web.urlopen(request, timeout=120).read(100).decode("ascii", "replace"))
"""
_PYTHON_SUM = """
import hashlib, sys
found = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    for piece in iter(lambda: file.read(1 << 20), b""):
        found.update(piece)
print(found.hexdigest())
"""
_PYTHON_UNPACK = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])"


def _begin(what: Sending) -> list[str]:
    """Finds a way to send, by saying with it that the script begins."""
    split = urlsplit(what.before)
    port = split.port or (443 if split.scheme == "https" else 80)
    ways = ["curl", "wget", "python3", *(["nc", "busybox", "bash"] if split.scheme == "http" else [])]
    q = shlex.quote
    return [
        f"wb_before={q(what.before)}; wb_after={q(what.after)}; wb_by=",
        f"wb_tries={TRIES}; wb_cr=$(printf '\\r')",
        f"wb_path={q(split.path)}; wb_netloc={q(split.netloc)}",
        f"wb_host={q(split.hostname or '')}; wb_port={port}",
        f"wb_python={q(_PYTHON)}",
        f"wb_python_sum={q(_PYTHON_SUM)}",
        f"wb_python_unpack={q(_PYTHON_UNPACK)}",
        _FUNCTIONS,
        f'echo "root $wb_root" >"$wb/{BEGAN}"',
        f"for wb_by in {' '.join(ways)} none; do",
        '  [ "$wb_by" = none ] && break; wb_has "$wb_by" || continue',
        f'  wb_answer=$(wb_put "$wb/{BEGAN}" {BEGAN} "" 2>"$wb/error") && break; cat "$wb/error" >&2',
        "done",
        '[ "$wb_by" = none ] && { echo "wes-bridge: nothing here can send to the service" >&2; exit 0; }',
        f'[ "$wb_answer" = {STOP} ] && wb_end stopped',
    ]


def _inputs(what: Sending) -> list[str]:
    q, lines = _Quote(what.root), list[str]()
    unusable = f"wb_end '{UNUSABLE} '"
    if what.archive is not None:
        missing = f"wb_end '{MISSING} {what.archive}'"
        lines += [
            f'wb_file=$wb_got/{what.archive}; [ -d "$wb_file" ] && wb_file=$wb_file/{CONTENT}',
            f'[ -f "$wb_file" ] || {missing}',
            f'mkdir -p "$wb/{ALL}" && if wb_has tar; then tar -xof "$wb_file" -C "$wb/{ALL}"',
            f'elif wb_has python3; then python3 -I -c "$wb_python_unpack" "$wb_file" "$wb/{ALL}"',
            f"else {unusable}'it has neither tar nor python3, to unpack its inputs'; fi || {missing}",
        ]
    for put in what.puts:
        lines += _put(put, q)
    lines += [
        f"mkdir -p {q(what.workdir)} || {unusable}'its working directory cannot be made'",
        *(f"mkdir -p {q(path.rpartition('/')[0])}" for path in (what.stdout, what.stderr)),
    ]
    return lines


def _put(put: Put, q: _Quote) -> list[str]:
    target, missing = q(put.path), f"wb_end '{MISSING} {put.number}'"
    above = f"mkdir -p {q(put.path.rpartition('/')[0])}"
    if put.contents is not None:
        return [f"{above} && printf %s {q(put.contents)} >{target} || {missing}"]
    if put.together is not None:
        source = f'"$wb/{ALL}/{put.together}"'
        move = f"if [ -d {target} ]; then cp -R {source}/. {target}/; else mv {source} {target}; fi"
        return [f"{above} && [ -e {source} ] && {move} || {missing}"]
    if put.fetched is None:
        return [f"mkdir -p {target} || {missing}"]
    how = "cp" if put.copied or put.executable else "ln -s"
    lines = [
        f'wb_file=$wb_got/{put.fetched}; [ -d "$wb_file" ] && wb_file=$wb_file/{CONTENT}',
        f'[ -e "$wb_file" ] && {above} && {how} "$wb_file" {target} || {missing}',
    ]
    return [*lines, f"chmod +x {target}"] if put.executable else lines


def _running(what: Sending) -> list[str]:
    q = _Quote(what.root)
    lines = [f"wb_has sleep || wb_end {CANNOT_TIME}"] if what.time_limit else []
    named = {name: text for name, text in what.environment.items() if _NAME.match(name)}
    odd = [q(f"{name}={text}") for name, text in what.environment.items() if name not in named]
    exports = "".join(f"export {name}={q(text)}; " for name, text in named.items())
    command = " ".join([*(["env", *odd] if odd else []), *(q(word) for word in what.argv)])
    stdin, out, err = q(what.stdin or "/dev/null"), q(what.stdout), q(what.stderr)
    lines += [
        # exec: none of the shell's own commands of that name, and the process to stop is the command; its
        # environment is not ours
        f"( cd {q(what.workdir)} && {exports}exec {command} ) <{stdin} >{out} 2>{err} &",
        "wb_command=$!",
        *watched(
            [
                f"if [ $((wb_seconds % {HEARTBEAT})) -eq 0 ]; then"
                f' wb_answer=$(wb_put "$wb/{BEGAN}" {ALIVE} "");'
                f' [ "$wb_answer" = {STOP} ] && wb_why=stopped; fi'
            ],
            what.time_limit,
        ),
        'wb_said="exit $wb_code"; [ -e "$wb/why" ] && read -r wb_said <"$wb/why"',
        '[ "$wb_said" = stopped ] && wb_end stopped',
        *_sent(what, q),
        'wb_end "$wb_said"',
    ]
    return lines


def _sent(what: Sending, q: _Quote) -> list[str]:
    """What the command left: of one that was ended by its time, too."""
    unsent = f'wb_end "{UNSENT} $(cat "$wb/error")"'
    lines = [f"wb_send_all {q(what.workdir)} || {unsent}"]
    paths = {STDOUT: what.stdout, STDERR: what.stderr}
    return lines + [f"wb_send {q(paths[name])} {name} || {unsent}" for name in what.streams]
