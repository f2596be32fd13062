"""Where the configuration comes from: flags over environment over file over defaults.

Everything that is wrong is found at start-up and told at once, each with the place it came from
(``file:line``, environment variable, flag) and what it should be. Only the shape is elsewhere
(:mod:`wes_bridge.config`).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from wes_bridge.bundle.document import Document, read_document
from wes_bridge.bundle.errors import BundleError
from wes_bridge.config import SHOWN_SYSTEM, TogetherError
from wes_bridge.digits import why

PREFIX = "WES_BRIDGE_"
CLIENT_VARIABLES = ("URL", "TOKEN", "TOKEN_FILE", "AUTH", "CONFIG", "PRIVATE_TOKEN")
"""Variables with our prefix that are no settings of the service."""
_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT.*)|PORT_\d+_(TCP|UDP).*")
"""What Kubernetes puts into every pod beside a service called wes-bridge."""

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        where: ``file:line``, a variable or a flag; empty for a default.
        message: what is wrong and what it should be.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class SettingsError(Exception):
    """The configuration cannot be used; ``problems`` says all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass
class Settings:
    """Values gathered from several places, and which came from where.

    Attributes:
        values: nested, as the model wants them.
        origins: place of each value, and of each section that was given.
        problems: found while gathering.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def set(self, key: Key, value: Any, where: str) -> None:
        """Put one value over what there is; a dict is merged, anything else replaces."""
        holder = self.values
        for index, part in enumerate(key[:-1]):
            self.origins.setdefault(key[: index + 1], where)
            if not isinstance(holder.get(str(part)), dict):
                holder[str(part)] = {}
            holder = holder[str(part)]
        for known in [known for known in self.origins if known[: len(key)] == key]:
            del self.origins[known]
        self.origins[key] = where
        holder[str(key[-1])] = value

    def origin(self, key: Key) -> str:
        """Where the value at ``key``, or the nearest thing around it, came from."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return ""


def gather(
    model: type[BaseModel],
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[Key, tuple[Any, str]],
    prefix: str = PREFIX,
) -> Settings:
    """Gather settings, lowest precedence first.

    Args:
        model: what they are for.
        file: YAML or JSON; relative paths in it are relative to its folder.
        environment: ``os.environ``; ``PREFIX_ENGINE__WORKERS`` is ``engine.workers``.
        flags: value and the flag's name by key.
        prefix: of environment variables.
    """
    settings = Settings()
    if file is not None:
        _from_file(settings, model, file)
    _from_environment(settings, model, environment, prefix)
    for key, (value, flag) in flags.items():
        settings.set(key, value, flag)
    return settings


def validate(model: type[Model], settings: Settings) -> tuple[Model | None, list[Problem]]:
    """The settings as the model, and what is wrong with them.

    When something is wrong the rest is still validated, with defaults for what is wrong, so that later
    checks can find more.
    """
    try:
        return model.model_validate(settings.values), list(settings.problems)
    except ValidationError as error:
        problems = settings.problems + [_explain(model, settings, dict(item)) for item in error.errors()]
        values = json.loads(json.dumps(settings.values, default=str))
        for item in sorted(error.errors(), key=lambda item: len(item["loc"]), reverse=True):
            _remove(values, item["loc"])
        try:
            return model.model_validate(values), problems
        except ValidationError:
            return None, problems


# --- file


def _from_file(settings: Settings, model: type[BaseModel], path: Path) -> None:
    try:
        document = read_document(path)
    except BundleError as error:
        settings.problems += [Problem("", problem) for problem in error.problems]
        return
    if document.data is None:
        return
    if not isinstance(document.data, dict):
        settings.problems.append(Problem(str(path), "must hold settings as 'name: value' lines"))
        return
    _merge(settings, document, document.data, (), model)


def _merge(settings: Settings, document: Document, data: Any, key: Key, kind: Any) -> None:
    """Note where everything in ``data`` stands; paths become absolute."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in list(items):
        inner = (*key, name if isinstance(name, int) else str(name))
        inner_kind = _kind_of(kind, name)
        is_word = key[-1:] == ("sandbox_shows",) and value == SHOWN_SYSTEM
        if _is_path(inner_kind) and isinstance(value, str) and not is_word:
            value = os.path.normpath(Path(document.name).absolute().parent / Path(value).expanduser())  # noqa: PLW2901
            data[name] = value
        settings.origins[inner] = document.where(data, name)
        if isinstance(value, dict | list):
            _merge(settings, document, value, inner, inner_kind)
    if not key:
        settings.values = {str(name): value for name, value in data.items()}


def _unwrapped(kind: Any) -> Any:
    """A field's type without Annotated and None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, types.UnionType):
            rest = [item for item in get_args(kind) if item is not type(None)]
            if len(rest) != 1:
                return kind
            kind = rest[0]
        else:
            return kind


def _kind_of(kind: Any, name: str | int) -> Any:
    """The type of a field, item or value of something of type ``kind``; ``None``: not known."""
    kind = _unwrapped(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = kind.model_fields.get(str(name))
        return _unwrapped(found.annotation) if found else None
    arguments = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):  # kinds of one thing: each has a model
        return next((found for one in arguments if (found := _kind_of(one, name)) is not None), None)
    return _unwrapped(arguments[-1]) if arguments and get_origin(kind) in (list, dict) else None


def _is_path(kind: Any) -> bool:
    return kind is Path


# --- environment


def _from_environment(
    settings: Settings, model: type[BaseModel], environment: Mapping[str, str], prefix: str
) -> None:
    for variable in sorted(environment):
        if not variable.startswith(prefix):
            continue
        name, text = variable.removeprefix(prefix), environment[variable]
        if name in CLIENT_VARIABLES or _KUBERNETES.fullmatch(name) or text.startswith(("tcp://", "udp://")):
            continue
        key = tuple(part.lower() for part in name.split("__"))
        kind: Any = model
        for part in key:
            kind = _kind_of(kind, part)
        if kind is None:
            settings.problems.append(Problem(variable, _unknown_variable(model, variable, prefix)))
            continue
        try:
            settings.set(key, _parsed(kind, text), variable)
        except ValueError as error:
            settings.problems.append(Problem(variable, str(error)))


def _parsed(kind: Any, text: str) -> Any:
    """An environment variable's text for a field of type ``kind``."""
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    origin = get_origin(kind)
    if origin is list and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if origin in (list, dict) or is_model:
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"is not JSON: {why(error)}") from error
    return text


def _unknown_variable(model: type[BaseModel], variable: str, prefix: str) -> str:
    known = [prefix + "__".join(key).upper() for key in _keys(model)]
    near = difflib.get_close_matches(variable, known, 1)
    return "no such setting" + (f"; did you mean {near[0]}?" if near else "")


def _keys(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """All settings that a variable can name."""
    found: list[tuple[str, ...]] = []
    for name, item in model.model_fields.items():
        kind = _unwrapped(item.annotation)
        found.append((name,))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += [(name, *key) for key in _keys(kind)]
    return found


# --- what is wrong


def _explain(model: type[BaseModel], settings: Settings, error: dict[str, Any]) -> Problem:
    key: Key = tuple(error["loc"])
    dotted = _dotted(key)
    where = settings.origin(key)
    if error["type"] == "extra_forbidden":
        return Problem(where, _unknown_setting(model, key))
    if error["type"] == "missing":
        return Problem(where, f"{dotted}: is missing and must be given{_help(model, key)}")
    message = _wrong(error)
    if not key:  # of several settings together: it names them
        cause = error.get("ctx", {}).get("error")
        return Problem(settings.origin(cause.key) if isinstance(cause, TogetherError) else where, message)
    shown = re.sub(r"//[^/@\s]*@", "//...@", _written(settings, error))  # no passwords in URLs
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return Problem(where, f"{dotted}: {message[:1].lower() + message[1:]}, not {shown}{_help(model, key)}")


def _wrong(error: dict[str, Any]) -> str:
    """What a value must be, in words."""
    kind = error["type"]
    if kind in ("time_delta_parsing", "time_delta_type"):
        return "must be an ISO 8601 duration such as PT2H, or a number of seconds"
    if kind == "path_type":
        return "must be a path"
    if kind == "string_pattern_mismatch":
        return "must be of letters, digits, '.', '_' and '-', and begin with a letter or digit"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def _written(settings: Settings, error: dict[str, Any]) -> str:
    """A value as it was given, and not as it was understood: ``PT0S``, ``null``."""
    value: Any = settings.values
    for part in error["loc"]:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):  # a default, or the error is of something inside
            value = error.get("input")
            break
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _unknown_setting(model: type[BaseModel], key: Key) -> str:
    kind: Any = model
    for part in key[:-1]:
        kind = _kind_of(kind, part)
    known = list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
    near = difflib.get_close_matches(str(key[-1]), known, 1)
    section = f" in {_dotted(key[:-1])}" if key[:-1] else ""
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"no setting {str(key[-1])!r}{section}; {hint}"


def _help(model: type[BaseModel], key: Key) -> str:
    """What the field is for, from its description."""
    kind: Any = model
    found = None
    for part in key:
        unwrapped = _unwrapped(kind)
        if isinstance(unwrapped, type) and issubclass(unwrapped, BaseModel):
            found = unwrapped.model_fields.get(str(part), found)
        kind = _kind_of(kind, part)
    return f" ({found.description})" if found is not None and found.description else ""


def _dotted(key: Key) -> str:
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _remove(values: Any, key: Key) -> None:
    """Take the value at ``key`` out; of a list, the item is emptied, so that others keep their index. All
    values go where it is not one of them that is wrong."""
    if not key:
        values.clear()
        return
    for part in key[:-1]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(values, dict):
        values.pop(key[-1], None)
    elif isinstance(values, list) and isinstance(key[-1], int) and key[-1] < len(values):
        values.pop(key[-1])
