"""A folder that a node fetches and in which something else is placed: it is told in pieces.

What is fetched is one folder by its manifest, which nothing can be put into. This must not know how a piece
is named to a node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from wes_bridge.data.beneath import real_path
from wes_bridge.data.workspace import file_url, url_path
from wes_bridge.model.step_plan import StagedFile, StageMode


def spread(staged: list[StagedFile], is_linked: Callable[[str], bool]) -> list[StagedFile]:
    """What a step is to find, with those folders in pieces that have to be. May block.

    Args:
        staged: what it is to find.
        is_linked: whether the node has what is at a real path, and fetches nothing.

    Raises:
        OSError: a folder cannot be read.
        UnicodeEncodeError: a name in it is no text.
    """
    placed = frozenset(item.path for item in staged)
    found: list[StagedFile] = []
    for item in staged:
        real = None
        is_file_url = item.url is not None and item.url.startswith("file:")
        if item.url is not None and is_file_url and item.directory and _is_around(item.path, placed):
            real = real_path(url_path(item.url))
        if real is None or is_linked(real):
            found.append(item)
        else:
            found += _pieces(item, real, placed)
    return found


def _pieces(item: StagedFile, real: str, placed: frozenset[str]) -> Iterator[StagedFile]:
    """A folder as it is, or what is in it, without links that lead out of it: there they lead nowhere."""
    if not _is_around(item.path, placed):
        yield item
        return
    yield StagedFile(item.path, directory=True, mode=StageMode.COPY)
    with os.scandir(real) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path, to = f"{item.path}/{name}", real_path(f"{real}/{name}")
        path.encode()
        if not to.startswith(f"{real}/"):
            continue
        piece = StagedFile(path, file_url(Path(to)), mode=item.mode)
        if os.path.isdir(to):  # noqa: PTH112 - texts, for each file
            yield from _pieces(replace(piece, directory=True), to, placed)
        elif os.path.isfile(to) and path not in placed:  # noqa: PTH113
            yield piece


def _is_around(path: str, placed: frozenset[str]) -> bool:
    return any(one.startswith(f"{path}/") for one in placed)
