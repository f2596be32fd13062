"""The shell script around a command on a broker without working directories, streams, exit codes, cancelling.

It runs in the step's container, whose image need have no more than a POSIX ``sh`` (and ``sleep``, for time
limits and stopping), and talks with us through files in ``.bridge`` of the folder both can see. It must not
know where that folder is on this machine.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

NOTES = ".bridge"
"""Folder, below the step's root, of the files below."""
SCRIPT, STARTED, STOP, EXIT = "run", "started", "stop", "exit"
"""The script itself; made when it begins; made by us to end it; one line with how it ended, written last."""
TIME, CANNOT_TIME = "time", "no-sleep"
"""Words in EXIT: the time limit was reached; it could not be kept, so the command was not begun."""
CONTENT = "content"
"""What a file is called that a broker puts into a folder of its own."""
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True)
class Fetched:
    """An input that the broker fetched to ``source`` and the command expects at ``target``.

    The schema does not say whether ``source`` is the file, or a folder with the file in it as ``content``:
    our node makes the one, the Java broker the other. ``number`` names it where it is missing.
    """

    number: int
    source: str
    target: str
    copied: bool


@dataclass(frozen=True)
class Wrapped:
    """What the script runs; all paths are the container's.

    Attributes:
        argv, environment, workdir: of the command.
        notes: the folder NOTES.
        stdin: absolute path, or None for nothing.
        stdout, stderr: absolute paths.
        fetched: inputs to put in their place.
        time_limit: seconds, or None.
        shared: folders whose content anybody may read and delete afterwards.
    """

    argv: list[str]
    environment: dict[str, str]
    workdir: str
    notes: str
    stdin: str | None
    stdout: str
    stderr: str
    fetched: list[Fetched] = field(default_factory=list)
    time_limit: int | None = None
    shared: list[str] = field(default_factory=list)


def script(what: Wrapped) -> str:
    """The script. It always exits 0: the broker leaves containers behind that do not, and the true code is in
    the file EXIT (``exit N``, ``time``, ``stopped``, ``missing NUMBER``, or CANNOT_TIME)."""
    q = shlex.quote
    lines = [
        "# Written by wes-bridge: runs one step, leaves its exit code and streams where they are seen.",
        f"wb={q(what.notes)}",
        # others than the container's user must be able to read and delete what it wrote
        "wb_end() {",
        *(f"  chmod -R a+rwX {q(path)} 2>/dev/null" for path in what.shared),
        f'  echo "$1" >"$wb/{EXIT}.new" && mv "$wb/{EXIT}.new" "$wb/{EXIT}"',
        "  exit 0",
        "}",
        f': >"$wb/{STARTED}"',
        f'[ -e "$wb/{STOP}" ] && wb_end stopped',
    ]
    for item in what.fetched:
        put = "cp" if item.copied else "ln -s"
        missing = f"wb_end 'missing {item.number}'"
        lines.append(f'wb_file={q(item.source)}; [ -d "$wb_file" ] && wb_file=$wb_file/{CONTENT}')
        lines.append(f'[ -e "$wb_file" ] || {missing}')
        lines.append(f'{put} "$wb_file" {q(item.target)} || {missing}')
    if what.time_limit:
        lines.append(f"command -v sleep >/dev/null || wb_end {CANNOT_TIME}")
    lines += [f"export {name}={q(text)}" for name, text in what.environment.items() if _NAME.match(name)]
    odd = [f"{q(f'{name}={text}')}" for name, text in what.environment.items() if not _NAME.match(name)]
    command = " ".join([*(["env", *odd] if odd else []), *(q(word) for word in what.argv)])
    lines += [
        f"cd {q(what.workdir)} || wb_end no-workdir",
        # exec: none of the shell's own commands of that name, and the process to stop is the command
        f"( exec {command} ) <{q(what.stdin or '/dev/null')} >{q(what.stdout)} 2>{q(what.stderr)} &",
        "wb_command=$!",
        *watched([f'[ -e "$wb/{STOP}" ] && wb_why=stopped'], what.time_limit),
        '[ -e "$wb/why" ] && read -r wb_why <"$wb/why" && wb_end "$wb_why"',
        'wb_end "exit $wb_code"',
    ]
    return "\n".join(lines) + "\n"


def watched(asks: list[str], time_limit: int | None) -> list[str]:
    """Lines that wait for the command ``$wb_command`` and end it in time; then ``$wb_code`` is its exit code,
    and ``$wb/why`` says why it was ended, if it was.

    Args:
        asks: lines that, once a second, set ``$wb_why`` where the command is to end.
        time_limit: seconds; None: it has all the time it wants.
    """
    if time_limit:
        asks = [*asks, f'[ "$wb_seconds" -ge {time_limit} ] && wb_why={TIME}']
    return [
        # it ends with the command: not everything that runs this ends what a script leaves behind
        '( wb_seconds=0; while sleep 1 && kill -0 "$wb_command" 2>/dev/null; do',
        "    wb_seconds=$((wb_seconds + 1)); wb_why=",
        *(f"    {line}" for line in asks),
        '    [ -z "$wb_why" ] && continue',
        '    echo "$wb_why" >"$wb/why"; kill -TERM "$wb_command"; sleep 2; kill -KILL "$wb_command"; break',
        "  done ) </dev/null >/dev/null 2>&1 &",
        "wb_watch=$!",
        'wait "$wb_command"; wb_code=$?',
        'kill "$wb_watch" 2>/dev/null',
    ]
