"""A graph in the shape of Montage's: images of the sky in three bands, fitted to each other and added up.

Each image is projected; each pair of neighbours is compared; all comparisons of a band give one model of the
background, which is taken off each image; the images are added, and the bands become one picture. That is
the shape of many pipelines: wide, narrow for a moment, wide again, with files that hundreds of steps make for
one. What the programs compute is left out: each says one word, so that the time is the engine's. The counts
are like those of real executions (about five comparisons an image); no document of theirs is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BANDS = ("j", "h", "k")
_ROWS = 8
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
"""Images that an image overlaps, each pair counted once: rows and columns further."""

Steps = dict[str, dict[str, Any]]
Tile = tuple[int, int]


def montage(size: int) -> dict[str, Any]:
    """A packed document whose workflow has at most ``size`` steps, as near as whole columns of images come.

    The smallest one has 103.
    """
    columns = 1
    while len(_steps(columns + 1)) <= size:
        columns += 1
    workflow = {
        "class": "Workflow",
        "id": "main",
        "requirements": {"MultipleInputFeatureRequirement": {}},
        "inputs": {},
        "outputs": {"picture": {"type": "File", "outputSource": "mViewer/out"}},
        "steps": _steps(columns),
    }
    tools = ("mProject", "mDiffFit", "mConcatFit", "mBgModel", "mBackground", "mImgtbl", "mAdd", "mViewer")
    return {"cwlVersion": "v1.2", "$graph": [*map(_tool, tools), workflow]}


def _tool(name: str) -> dict[str, Any]:
    return {
        "class": "CommandLineTool",
        "id": name,
        "baseCommand": "echo",
        "inputs": {"word": {"type": "string", "inputBinding": {}}, "files": "File[]?"},
        "outputs": {"out": "stdout"},
        "stdout": "$(inputs.word).txt",
    }


def _steps(columns: int) -> Steps:
    steps: Steps = {}
    for band in BANDS:
        steps |= _band(band, columns)
    steps |= _step("mViewer", [f"mAdd-{band}" for band in BANDS])
    return steps


def _band(band: str, columns: int) -> Steps:
    steps: Steps = {}
    tiles = [(row, column) for row in range(_ROWS) for column in range(columns)]
    pairs = list(_pairs(tiles))
    for tile in tiles:
        steps |= _step(_named("mProject", band, tile), [])
    for one, other in pairs:
        both = [_named("mProject", band, tile) for tile in (one, other)]
        steps |= _step(_named("mDiffFit", band, one + other), both)
    steps |= _step(f"mConcatFit-{band}", [_named("mDiffFit", band, one + other) for one, other in pairs])
    steps |= _step(f"mBgModel-{band}", [f"mConcatFit-{band}"])
    for tile in tiles:
        flattened = [_named("mProject", band, tile), f"mBgModel-{band}"]
        steps |= _step(_named("mBackground", band, tile), flattened)
    images = [_named("mBackground", band, tile) for tile in tiles]
    steps |= _step(f"mImgtbl-{band}", images)
    steps |= _step(f"mAdd-{band}", [*images, f"mImgtbl-{band}"])
    return steps | _step(f"mViewer-{band}", [f"mAdd-{band}"])


def _pairs(tiles: list[Tile]) -> Iterator[tuple[Tile, Tile]]:
    there = set(tiles)
    for row, column in tiles:
        for down, right in _NEIGHBOURS:
            other = (row + down, column + right)
            if other in there:
                yield (row, column), other


def _named(program: str, band: str, numbers: tuple[int, ...]) -> str:
    return "-".join((program, band, *map(str, numbers)))


def _step(name: str, sources: list[str]) -> Steps:
    inputs: dict[str, Any] = {"word": {"default": name}}
    if sources:
        files = [f"{source}/out" for source in sources]
        inputs["files"] = {"source": files, "linkMerge": "merge_flattened"}
    return {name: {"run": f"#{name.partition('-')[0]}", "in": inputs, "out": ["out"]}}
