"""The files of an output, for stores that know no links: one at a time, by descriptors.

Links that lead to another file of the output, or to what the session was given, count as files; all others
are left out. Something may still change the output: no link is followed when a file is opened. It must not
know where the files go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wes_bridge.data.beneath import folders_below, name_of, open_beneath, opened, regular_file, top_of

CHUNK = 256 * 1024
"""Bytes of a piece of a file."""


def files_of(folder: int, name: str, beside: Sequence[Path]) -> Iterator[tuple[str, int]]:
    """The files of an output.

    Args:
        folder: descriptor of the folder it is in.
        name: its name there.
        beside: where its links may lead, apart from itself; links followed already.

    Yields:
        The path of each below the output, empty for the output itself, and a descriptor to read it, which is
        the caller's to close.

    Raises:
        OSError: something was changed meanwhile, or cannot be read.
    """
    thing = open_beneath(folder, name)
    if stat.S_ISDIR(os.fstat(thing).st_mode):
        with opened(thing):
            yield from _below(thing, beside)
    else:
        yield "", thing


def _below(top: int, beside: Sequence[Path]) -> Iterator[tuple[str, int]]:
    real = name_of(top)
    within = [*beside, Path(real)] if real is not None else list(beside)
    for folder, relative, entries in folders_below(top):
        before = relative + "/" if relative else ""
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                continue
            file = regular_file(folder, entry.name)
            if file is None and entry.is_symlink():
                file = _linked(folder, entry.name, within)
            if file is not None:
                yield before + entry.name, file


def _linked(folder: int, name: str, within: Iterable[Path]) -> int | None:
    """A descriptor of the file that a link leads to, when that is in one of these folders, or is one of
    them: links on the way are followed once, to see where it is, and not when it is opened."""
    try:
        here = name_of(folder)
        real = Path(os.path.realpath(Path(here or "/", os.readlink(name, dir_fd=folder)), strict=True))
    except OSError:
        return None
    if here is None or not any(map(real.is_relative_to, within)):
        return None
    with opened(top_of("/")) as root:
        return regular_file(root, str(real)[1:])


def chunks_of(file: int) -> Iterator[bytes]:
    """The content of an open file, from its beginning."""
    offset = 0
    while chunk := os.pread(file, CHUNK, offset):
        yield chunk
        offset += len(chunk)
