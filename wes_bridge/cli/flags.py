"""From the flags of a command to the configuration it runs with, or to exit code 2.

Must stay light: the configuration and what checks it are imported only when there is one to make.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from wes_bridge.cli.exit_codes import USAGE
from wes_bridge.model.containers import CONTAINERS, PARAMETER
from wes_bridge.start import importing

if TYPE_CHECKING:
    from pydantic import BaseModel

    from wes_bridge.cli.settings import Key
    from wes_bridge.config import AggregatorConfig, NodeConfig

_Config = TypeVar("_Config")
_Server = TypeVar("_Server", "AggregatorConfig", "NodeConfig")


def settings_given(given: dict[str, Any], *same: str, **others: str) -> dict[Key, tuple[object, str]]:
    """The flags that were given, as ``cli.settings`` wants them: value and the flag's name by setting.

    Args:
        given: the command's options, None where one was not given.
        same: options that are called as their settings.
        others: the settings of other options, dotted: ``workers="engine.workers"``.
    """
    keys = {name: name for name in same} | others
    return {
        tuple(setting.split(".")): (given[name], "--" + name.replace("_", "-"))
        for name, setting in keys.items()
        if given[name] is not None
    }


def containers_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--containers`` option of commands that run or plan a workflow."""
    return click.option(
        "--containers",
        type=click.Choice(CONTAINERS),
        help="Images that tools name. preferred (the default): one that is only a hint is left out where no"
        " node has a container engine. required: never left out. never: no containers.",
    )(function)


def engine_parameters(given: dict[str, Any]) -> dict[str, str]:
    """The engine parameters of ``--engine``, and of the options that stand for some."""
    parameters = dict(pairs(given["engine"], "--engine"))
    if given.get("containers") is not None:
        parameters[PARAMETER] = given["containers"]
    if given.get("reuse") is not None:
        parameters["reuse"] = "on" if given["reuse"] else "off"
    return parameters


def pairs(texts: Iterable[str], flag: str, form: str = "KEY=VALUE") -> list[tuple[str, str]]:
    """What a repeatable flag of two parts says.

    Args:
        texts: its values.
        flag: as it is written, for the message.
        form: what a value should look like, for the message.

    Raises:
        click.BadParameter: one of them is not of that form.
    """
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r}: give it as {form}", param_hint=flag)
        found.append((key, value))
    return found


def brokers_given(texts: Iterable[str]) -> dict[Key, tuple[object, str]]:
    """The setting ``brokers``, when ``--broker NAME=URL`` was given."""
    found = [{"name": name, "url": url} for name, url in pairs(texts, "--broker", "NAME=URL")]
    return {("brokers",): (found, "--broker")} if found else {}


def settled(
    read: Callable[[Path | None, dict[Key, tuple[object, str]]], _Config],
    file: Path | None,
    flags: dict[Key, tuple[object, str]],
) -> _Config:
    """The configuration; where it is wrong all that is wrong is printed, and the command exits.

    Args:
        read: the function of ``cli.configure`` for it.
        file: of settings.
        flags: see :func:`settings_given`.
    """
    from wes_bridge.cli.settings import SettingsError  # noqa: PLC0415

    try:
        return read(file, flags)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        raise SystemExit(USAGE) from None


def in_folder(config: _Server, kind: str) -> _Server:
    """The same with a state folder: where none is said, one here that is called after it."""
    if config.state_dir is not None:
        return config
    folder = Path(f"wes-bridge-{kind}-{config.name}").absolute()
    return config.model_copy(update={"state_dir": folder})


def become(module: str, config: BaseModel, *flags: str) -> NoReturn:
    """Go on as what serves with this configuration, as its own process would.

    Args:
        module: its main module.
        config: given to it as JSON.
        flags: given to it as they are.
    """
    arguments = ["--config-json", config.model_dump_json(), *flags]
    with importing():
        serving = importlib.import_module(module)
    sys.exit(serving.main(arguments))
