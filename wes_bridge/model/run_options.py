"""What a run's engine parameters may say beside how nodes are chosen: what to do on errors, reuse, resources.

They are checked when a run is submitted and read again when it is worked on, with the same words both times.
A step is named by its place in the workflow (``sub/measure``, ``measure[3]``): see :func:`names_step`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from wes_bridge.model.containers import PARAMETER, Containers, ContainersError, read_containers
from wes_bridge.model.units import MIB

OnError = Literal["stop", "continue", "cancel"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
Outputs = Literal["bring", "stay"]
OUTPUTS: tuple[Outputs, ...] = get_args(Outputs)
RERUN = "rerun."
"""Engine parameters of this name are written by the service: of which run a run is a rerun."""
RESOURCES = "resources."
SKIP_SCHEMAS = "skip_schemas"
SET = f"{RERUN}set"
"""Of a rerun: the names of the inputs that it was given anew, with commas."""
SHARE_WITH = "share_with"
"""Names of groups, with commas, whose members may look at the run."""
KNOWN = (
    "policy",
    "on_error",
    "reuse",
    "containers",
    "outputs",
    SKIP_SCHEMAS,
    SHARE_WITH,
    "webhook",
    "webhook_secret",
    "webhook_states",
)
"""Engine parameters that mean something, beside those that begin with one of these:"""
KNOWN_BEGINNINGS = ("policy.", RESOURCES, RERUN)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGTP]i?B?)", re.IGNORECASE)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_INDICES = re.compile(r"(\[\d+\])+$")


class OptionsError(ValueError):
    """An engine parameter that cannot be understood; the text names it and what it should be."""


@dataclass(frozen=True)
class Override:
    """Resources a step gets instead of what it asks for; None leaves them.

    Attributes:
        ram: bytes.
        cores: number.
    """

    ram: int | None = None
    cores: float | None = None


@dataclass(frozen=True)
class RunOptions:
    """What a run asked for.

    Attributes:
        on_error: what becomes of the other steps when one has failed for good.
        reuse: whether steps take results that are kept; None when the run does not say.
        containers: whether commands run in the images that tools name; None when the run does not say.
        resources: by name of a step, in the order written.
        skip_schemas: whether what a document's ``$schemas`` names is left where it is.
        outputs: whether outputs that are at nodes are brought to the workspace when the run ends.
    """

    on_error: OnError = "stop"
    reuse: bool | None = None
    containers: Containers | None = None
    resources: Mapping[str, Override] = field(default_factory=dict)
    skip_schemas: bool = False
    outputs: Outputs = "bring"

    def override(self, place: Sequence[str]) -> Override:
        """Resources for the step at ``place``; the last that names it decides."""
        ram: int | None = None
        cores: float | None = None
        for name, given in self.resources.items():
            if names_step(name, place):
                ram = given.ram if given.ram is not None else ram
                cores = given.cores if given.cores is not None else cores
        return Override(ram, cores)


def run_options(parameters: Mapping[str, str]) -> RunOptions:
    """Options from a run's engine parameters; those of other kinds are passed over.

    Raises:
        OptionsError: names the parameter, and what it should be.
    """
    on_error = parameters.get("on_error") or "stop"
    if on_error not in ON_ERROR:
        raise OptionsError(f"on_error: {on_error[:40]!r} is none of {', '.join(ON_ERROR)}")
    try:
        containers = read_containers(parameters.get(PARAMETER) or "")
    except ContainersError as error:
        raise OptionsError(str(error)) from error
    return RunOptions(
        next(name for name in ON_ERROR if name == on_error),
        _switch(parameters, "reuse"),
        containers,
        _resources(parameters),
        bool(_switch(parameters, SKIP_SCHEMAS)),
        _outputs(parameters),
    )


def _outputs(parameters: Mapping[str, str]) -> Outputs:
    said = parameters.get("outputs") or "bring"
    found = next((name for name in OUTPUTS if name == said), None)
    if found is None:
        raise OptionsError(f"outputs: {said[:40]!r} is none of {', '.join(OUTPUTS)}")
    return found


def _switch(parameters: Mapping[str, str], name: str) -> bool | None:
    said = (parameters.get(name) or "").lower()
    if said and said not in _SWITCH:
        raise OptionsError(f"{name}: {said[:40]!r} is neither on nor off")
    return _SWITCH[said] if said else None


def _resources(parameters: Mapping[str, str]) -> dict[str, Override]:
    found: dict[str, Override] = {}
    for key, text in parameters.items():
        if not key.startswith(RESOURCES):
            continue
        step, _, what = key.removeprefix(RESOURCES).rpartition(".")
        if not step or what not in ("ram", "cores"):
            raise OptionsError(f"{key[:80]}: write it as resources.STEP.ram or resources.STEP.cores")
        given = found.get(step, Override())
        try:
            if what == "ram":
                given = Override(parse_size(text), given.cores)
            else:
                given = Override(given.ram, _cores(text))
        except ValueError as error:
            raise OptionsError(f"{key[:80]}: {error}") from error
        found[step] = given
    return found


def parse_size(text: str) -> int:
    """Bytes from a number with a unit: ``8GiB``, ``512 MiB``, ``2G`` (powers of 1024), ``1GB`` (of 1000).

    Raises:
        ValueError: it is not such a text, or less than a MiB.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:40]!r} is not a size; write a number and a unit, as 8GiB or 512MiB")
    unit = match[2].upper()
    decimal = len(unit) == 2 and unit[1] == "B"
    power = _UNITS[unit[0] if unit != "B" else ""]
    size: float = float(match[1]) * (1000 if decimal else 1024) ** power
    if not MIB <= size < 2**60:
        raise ValueError(f"{text[:40]!r} is not between 1 MiB and 1 EiB")
    return math.ceil(size)


def _cores(text: str) -> float:
    try:
        cores = float(text)
    except ValueError:
        cores = math.nan
    if not 0 < cores <= 1_000_000:
        raise ValueError(f"{text[:40]!r} is not a number of cores above 0")
    return cores


def unknown_parameters(names: Iterable[str]) -> list[str]:
    """What to say about engine parameters that mean nothing here: other engines may know them."""
    return [
        f"workflow_engine_parameters: {name[:80]!r} means nothing to this service and is ignored; "
        + did_you_mean(name, (*KNOWN, "policy.NAME", "resources.STEP.ram", "resources.STEP.cores"))
        for name in names
        if name not in KNOWN and not name.startswith(KNOWN_BEGINNINGS)
    ]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The name that is most like an unknown one, else all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names[:50]) or 'none'}"


def names_step(name: str, place: Sequence[str]) -> bool:
    """Whether ``name`` means the step at ``place``, or something around it.

    Without an index a name means all elements of a scatter, and the name of a sub-workflow's step all in it.
    """
    parts = name.strip("/").split("/")
    if len(parts) > len(place) or not parts[0]:
        return False
    return all(part in (segment, without_index(segment)) for part, segment in zip(parts, place, strict=False))


def without_index(name: str) -> str:
    """``measure[3]`` as ``measure``."""
    return _INDICES.sub("", name)


def unknown_step(name: str, known: Iterable[str]) -> str:
    """What to say about a name that means no step; ``known`` are places as text."""
    names = sorted({"/".join(map(without_index, key.split("/"))) for key in known})
    shown = ", ".join(names[:50]) + (f" and {len(names) - 50} more" if len(names) > 50 else "")
    return f"there is no step {name[:80]!r}; there are: {shown or 'none'}"
