"""What a user may ask of the choice of nodes: a policy, hard limits, retries; and how several levels combine.

The site, the run, the workflow, the step and the tool can each say something (:class:`Preferences`, the
shape of the ``Placement`` hint); together they make one :class:`Wish` for a step. The more specific level
decides on the policy, its weights and retries; limits add up: every one of them holds.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from wes_bridge.digits import why
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY, COST_MONETARY, METRIC_COMPUTE, METRIC_IO
from wes_bridge.model.units import parse_duration, parse_instant

NAMESPACE = "urn:wes-bridge:cwl:"
"""Namespace of our CWL extensions; workflows write ``$namespaces: {wb: "urn:wes-bridge:cwl:"}``."""
HINT = NAMESPACE + "Placement"
"""Class of the CWL hint that holds :class:`Preferences`."""
PREFIX = "policy."
"""Engine parameters ``policy`` and ``policy.NAME`` are preferences of a run."""
DEFAULT_POLICY = "earliest"
METRICS = {"compute-performance": METRIC_COMPUTE, "io-throughput": METRIC_IO}
"""Short names of the metrics that brokers quote."""

Measure = Literal["time", "cost", "energy", "carbon", "performance", "throughput", "data"]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Metric = Literal["compute-performance", "io-throughput"]


class PreferencesError(ValueError):
    """Preferences that cannot be understood; ``where`` is the field's name, empty for the whole."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)
        self.where = where
        self.problem = problem


def _listed(value: Any) -> Any:
    """One name where several may stand."""
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)]


class Preferences(BaseModel):
    """How the node of a step is chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str | None = Field(
        None, description="earliest, cheapest, greenest, fastest, local, balanced, or one the site added"
    )
    weights: dict[Measure, Amount] | None = Field(
        None, description="for the policy 'balanced': how much each measure counts", min_length=1
    )
    max_cost: Amount | None = Field(None, description="most a step may cost, in the site's currency")
    max_energy: Amount | None = Field(None, description="most energy a step may take, kWh")
    max_carbon: Amount | None = Field(None, description="most carbon a step may emit, grams of CO2")
    deadline: str | None = Field(
        None,
        description="the step must be done by then: an ISO 8601 instant, or a duration from when nodes are"
        " first asked (PT2H)",
    )
    duration: str | None = Field(
        None, description="how long a step takes at most (PT30M): nodes are asked for that much time"
    )
    only: Names | None = Field(None, description="only these nodes: names, or labels as key=value")
    never: Names | None = Field(None, description="never these nodes: names, or labels as key=value")
    required: dict[Metric, Amount] | None = Field(
        None, description="metrics a node must promise at least this much of"
    )
    retries: int | None = Field(None, ge=0, le=10, description="times a command that failed is run again")
    memory_retries: int | None = Field(
        None, ge=0, le=10, description="times a command that ran out of memory is run again, with more"
    )
    memory_factor: float | None = Field(
        None, gt=1, le=16, description="how much more memory each time (2 when not said)"
    )

    @field_validator("deadline")
    @classmethod
    def _check_deadline(cls, text: str | None) -> str | None:
        if text is not None:
            _when(text)
        return text

    @field_validator("duration")
    @classmethod
    def _check_duration(cls, text: str | None) -> str | None:
        if text is not None:
            _length(text)
        return text

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        if weights is not None and not any(weights.values()):
            raise ValueError("at least one weight must be above 0")
        return weights

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said."""
        return all(value is None for value in vars(self).values())


@dataclass(frozen=True)
class Wish:
    """What holds for one step, all levels combined.

    Attributes:
        policy: name of the policy.
        weights: for ``balanced``; empty for its defaults.
        max_costs: by type of cost (``urn:...``), the most that is acceptable.
        before: the step must be done by this instant.
        within: the step must be done this long after nodes were first asked.
        duration: how long the command takes at most, where it has no time limit.
        only: a node must be among the names or labels of each group.
        never: names or labels of nodes that are not asked.
        required: by type of metric, the least that is acceptable.
        retries: times a failed command is run again.
        memory_retries, memory_factor: times a command that ran out of memory is run again, and with how
            many times the memory.
    """

    policy: str = DEFAULT_POLICY
    weights: Mapping[str, float] = field(default_factory=dict)
    max_costs: Mapping[str, float] = field(default_factory=dict)
    before: datetime | None = None
    within: timedelta | None = None
    duration: timedelta | None = None
    only: tuple[tuple[str, ...], ...] = ()
    never: tuple[str, ...] = ()
    required: Mapping[str, float] = field(default_factory=dict)
    retries: int = 0
    memory_retries: int = 0
    memory_factor: float = 2.0

    @property
    def has_limits(self) -> bool:
        """Whether an offer can be refused for what it says."""
        return bool(self.max_costs or self.required or self.before or self.within)

    @property
    def picks_nodes(self) -> bool:
        """Whether a node can be left out for what it is."""
        return bool(self.only or self.never)


NO_WISH = Wish()
"""Where nobody says anything."""


def combine(levels: Iterable[Preferences]) -> Wish:
    """One wish of several levels, the most general first."""
    said = [level for level in levels if not level.is_empty]
    deadlines = [_when(level.deadline) for level in said if level.deadline is not None]
    duration = _last(said, "duration", None)
    required: dict[str, float] = {}
    for level in said:
        for name, least in (level.required or {}).items():
            required[METRICS[name]] = max(least, required.get(METRICS[name], 0.0))
    return Wish(
        policy=_last(said, "policy", DEFAULT_POLICY),
        weights=_last(said, "weights", {}),
        max_costs=_max_costs(said),
        before=min((when for when in deadlines if isinstance(when, datetime)), default=None),
        within=min((length for length in deadlines if isinstance(length, timedelta)), default=None),
        duration=None if duration is None else _length(duration),
        only=tuple(level.only for level in said if level.only is not None),
        never=tuple(dict.fromkeys(name for level in said for name in level.never or ())),
        required=required,
        retries=_last(said, "retries", 0),
        memory_retries=_last(said, "memory_retries", 0),
        memory_factor=_last(said, "memory_factor", 2.0),
    )


def _max_costs(levels: list[Preferences]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, kind in (
        ("max_cost", COST_MONETARY),
        ("max_energy", COST_ENERGY),
        ("max_carbon", COST_CARBON),
    ):
        limits = [value for level in levels if (value := getattr(level, name)) is not None]
        if limits:
            found[kind] = min(limits)
    return found


def _last(levels: list[Preferences], name: str, default: Any) -> Any:
    return next((v for level in reversed(levels) if (v := getattr(level, name)) is not None), default)


def _when(text: str) -> datetime | timedelta:
    """A deadline's instant or duration.

    Raises:
        ValueError: it is neither.
    """
    try:
        if not text.startswith("P"):
            return parse_instant(text)
        length = parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise ValueError("neither an instant (2026-01-31T12:00:00Z) nor a duration (PT2H)") from error
    if length <= timedelta():
        raise ValueError("a duration above zero is needed")
    return length


def _length(text: str) -> timedelta:
    """A duration's length.

    Raises:
        ValueError: it is none, or too short to run anything.
    """
    try:
        length = parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise ValueError("a duration (PT30M) is needed") from error
    if not timedelta(seconds=1) <= length <= timedelta(days=3660):
        raise ValueError("a duration between a second and ten years is needed")
    return length


def read_preferences(fields: Mapping[str, Any], policies: Iterable[str] | None = None) -> Preferences:
    """Preferences from a hint's fields.

    Args:
        fields: as written.
        policies: names that there are; None: not checked.

    Raises:
        PreferencesError: names the first field that is wrong, and what it should be.
    """
    try:
        found = Preferences.model_validate(dict(fields))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        if problem["type"] == "extra_forbidden":
            raise PreferencesError(where, _unknown(where, Preferences.model_fields)) from error
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        raise PreferencesError(where, f"{message}, not {_shown(problem.get('input'))}") from error
    known = None if policies is None else sorted(policies)
    if found.policy is not None and known is not None and found.policy not in known:
        raise PreferencesError("policy", f"there is no policy {found.policy!r}; known: {', '.join(known)}")
    return found


def run_preferences(parameters: Mapping[str, str], policies: Iterable[str] | None = None) -> Preferences:
    """Preferences from a run's engine parameters: ``policy`` and ``policy.NAME``.

    Lists are written with commas, weights and required metrics as ``name=number`` with commas, or any of
    them as JSON.

    Raises:
        PreferencesError: ``where`` is the parameter.
    """
    fields: dict[str, Any] = {}
    for key, text in parameters.items():
        if key != "policy" and not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX)
        if name not in Preferences.model_fields:
            raise PreferencesError(key, _unknown(name, Preferences.model_fields))
        if text != "":
            fields[name] = _from_text(key, name, text)
    try:
        return read_preferences(fields, policies)
    except PreferencesError as error:
        where = error.where if error.where == "policy" else PREFIX + error.where
        raise PreferencesError(where, error.problem) from error


def _from_text(key: str, name: str, text: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError as error:
            raise PreferencesError(key, f"is not JSON: {why(error)}") from error
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if name in ("only", "never"):
        return parts
    if name in ("weights", "required"):
        pairs = [part.partition("=") for part in parts]
        if any(not equals for _, equals, _ in pairs):
            raise PreferencesError(key, f"write it as name=number,name=number, not {text!r}")
        return {left.strip(): right.strip() for left, _, right in pairs}
    return text


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return "there is no such preference; " + (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def hint_schema() -> dict[str, Any]:
    """The JSON schema of the hint, as it stands in a CWL document."""
    schema = Preferences.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Placement"
    schema["description"] = "CWL hint: how the node of a step is chosen. Class wb:Placement, namespace " + (
        f"{NAMESPACE} (wes-bridge)."
    )
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "minLength": 1}}]}
    for name in ("only", "never"):
        schema["properties"][name] = names | {"description": schema["properties"][name]["description"]}
    for definition in schema["properties"].values():
        definition.pop("title", None)
        definition.pop("default", None)
    schema["properties"]["class"] = {"enum": ["wb:Placement", HINT]}
    return schema


if __name__ == "__main__":
    print(json.dumps(hint_schema(), indent=2))  # noqa: T201  # docs/placement.schema.json
