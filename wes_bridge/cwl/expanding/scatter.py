"""The elements of a scattered step, in the places cwltool gives them, as far as the lists are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from cwltool.errors import WorkflowException

from wes_bridge.cwl.expanding.unknown import Unknown

Index = tuple[int, ...]
Inputs = dict[str, Any]


def widths(inputs: Mapping[str, Any], keys: list[str], method: str | None) -> list[int] | None:
    """How long the scattered lists are, one number a key; None when one of them has to be waited for.

    Args:
        inputs: of the step; those that are known are lists (``require_lists``).
        keys: the scattered ones.
        method: CWL's ``scatterMethod``.

    Raises:
        WorkflowException: several lists, and no word of how they go together.
    """
    if method is None and len(keys) != 1:
        raise WorkflowException("Must specify scatterMethod when scattering over multiple inputs")
    lengths = [len(value) for value in (inputs[key] for key in keys) if not isinstance(value, Unknown)]
    if method in (None, "dotproduct"):
        return lengths[:1] * len(keys) if lengths else None
    return lengths if len(lengths) == len(keys) else None


def elements(
    inputs: Inputs, keys: list[str], method: str | None, lengths: list[int]
) -> Iterator[tuple[Index, Inputs]]:
    """Each element's index and inputs.

    Args:
        inputs: of the step, lists where it is scattered.
        keys: the scattered ones.
        method: CWL's ``scatterMethod``.
        lengths: see :func:`widths`.
    """
    dot = method in (None, "dotproduct")
    indices = ((i,) * len(keys) for i in range(lengths[0])) if dot else _crossed(lengths)
    for number, index in enumerate(indices):
        element = inputs | {key: _at(inputs[key], i) for key, i in zip(keys, index, strict=True)}
        place = index if method == "nested_crossproduct" else (number,)
        yield place, element


def _crossed(lengths: list[int]) -> Iterator[Index]:
    return itertools.product(*(range(length) for length in lengths))


def _at(value: Any, index: int) -> Any:
    return value.element() if isinstance(value, Unknown) else value[index]


def one_of_many(inputs: Inputs, keys: list[str]) -> Inputs:
    """The inputs of an element that stands for all, when it is not known how many there are."""
    waits = [value for value in (inputs[key] for key in keys) if isinstance(value, Unknown)]
    stand_in = Unknown(frozenset().union(*(value.sources for value in waits)))
    return inputs | dict.fromkeys(keys, stand_in)


def gathered(outputs: list[Any], method: str | None, lengths: list[int]) -> list[Any]:
    """One output of all elements as the list, or nested lists, that the step gives."""
    if method != "nested_crossproduct" or len(lengths) == 1:
        return outputs
    rest = lengths[1:]
    size = 1
    for length in rest:
        size *= length
    return [gathered(outputs[i * size : (i + 1) * size], method, rest) for i in range(lengths[0])]
