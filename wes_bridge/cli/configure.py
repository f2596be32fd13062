"""The complete way from flags to a checked configuration, for the service and for a node."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel

from wes_bridge.cli.checks import Finding, check_aggregator, check_node, check_service
from wes_bridge.cli.settings import PREFIX, Key, Problem, SettingsError, gather, validate
from wes_bridge.config import AggregatorConfig, NodeConfig, ServiceConfig

NODE_PREFIX = "WES_BRIDGE_NODE_"
AGGREGATE_PREFIX = "WES_BRIDGE_AGGREGATE_"
Flags = Mapping[Key, tuple[object, str]]
_Model = TypeVar("_Model", bound=BaseModel)


def service_config(
    file: Path | None, flags: Flags, environment: Mapping[str, str] | None = None
) -> ServiceConfig:
    """The service's configuration.

    Args:
        file: YAML; ``None``: the one that ``WES_BRIDGE_CONFIG`` names, if it does.
        flags: value and the flag's name by key.
        environment: default: the process's.

    Raises:
        SettingsError: all that is wrong.
    """
    environment = os.environ if environment is None else environment
    if file is None and environment.get(PREFIX + "CONFIG"):
        file = Path(environment[PREFIX + "CONFIG"])
    others = (NODE_PREFIX, AGGREGATE_PREFIX)
    environment = {name: text for name, text in environment.items() if not name.startswith(others)}
    return _config(ServiceConfig, check_service, file, flags, environment, PREFIX)


def node_config(file: Path | None, flags: Flags, environment: Mapping[str, str] | None = None) -> NodeConfig:
    """A node's configuration; variables begin with ``WES_BRIDGE_NODE_``. See :func:`service_config`."""
    environment = os.environ if environment is None else environment
    if file is None and environment.get(NODE_PREFIX + "CONFIG"):
        file = Path(environment[NODE_PREFIX + "CONFIG"])
    return _config(NodeConfig, check_node, file, flags, environment, NODE_PREFIX)


def aggregator_config(
    file: Path | None, flags: Flags, environment: Mapping[str, str] | None = None
) -> AggregatorConfig:
    """An aggregator's configuration; variables begin with ``WES_BRIDGE_AGGREGATE_``.

    See :func:`service_config`.
    """
    environment = os.environ if environment is None else environment
    if file is None and environment.get(AGGREGATE_PREFIX + "CONFIG"):
        file = Path(environment[AGGREGATE_PREFIX + "CONFIG"])
    return _config(AggregatorConfig, check_aggregator, file, flags, environment, AGGREGATE_PREFIX)


def _config(  # noqa: PLR0917
    model: type[_Model],
    check: Callable[[_Model], Iterable[Finding]],
    file: Path | None,
    flags: Flags,
    environment: Mapping[str, str],
    prefix: str,
) -> _Model:
    settings = gather(model, file, environment, flags, prefix)
    config, problems = validate(model, settings)
    if config is not None:
        known = {problem.message for problem in problems}
        for key, message in check(config):
            if message not in known:
                problems.append(Problem(settings.origin(key), message))
    if problems or config is None:
        raise SettingsError(problems)
    return config


def dump(config: BaseModel) -> str:
    """A configuration as YAML that could be a configuration file."""
    data = config.model_dump(mode="json")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
