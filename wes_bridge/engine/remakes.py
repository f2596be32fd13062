"""Notes of lost outputs, beside their folders, while the outputs are made again.

An output that is lost is made again in a session that belongs to no open task. Its offer is noted before it
is accepted, so that the worker that takes the run up follows that session, or releases it. This module must
not know how an output is made.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from wes_bridge.small_files import read_small

_LONGEST = 4 * 1024**2
_SUFFIX = ".again"


class Remake(BaseModel):
    """One output that is made again.

    Attributes:
        times: how often it was lost.
        placement: where the step runs (:class:`~wes_bridge.federation.placement.Placement`, as JSON).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    times: int
    placement: dict[str, Any]


def remake_note(folder: Path) -> Path:
    """The note of an output, by its folder in the workspace."""
    return folder.with_name(f".{folder.name}{_SUFFIX}")


def write_remake(folder: Path, remake: Remake) -> None:
    """Write the note; it is there as a whole or not at all. Blocks.

    Raises:
        OSError: it cannot be written.
    """
    note = remake_note(folder)
    part = note.with_name(f"{note.name}.part")
    with part.open("w") as file:
        file.write(remake.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    part.replace(note)


def read_remakes(tasks: Path) -> dict[str, Remake]:
    """All notes of a run, by the real paths of the outputs; one that is damaged is none. Blocks.

    Args:
        tasks: folder of the run's tasks.
    """
    found: dict[str, Remake] = {}
    for note in tasks.glob(f"*/.*{_SUFFIX}"):
        with suppress(OSError, ValidationError, ValueError):
            folder = note.with_name(note.name[1:].removesuffix(_SUFFIX)).resolve(strict=True)
            found[str(folder)] = Remake.model_validate_json(read_small(note, _LONGEST, follow=False))
    return found
