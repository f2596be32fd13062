"""The kinds a request may use: missing or unheard-of ones are bad requests."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from wes_bridge.model import execution_broker as eb
from wes_bridge.node.errors import BadRequestError

EXECUTABLES = frozenset({eb.DOCKER_CONTAINER, eb.SINGULARITY_CONTAINER, eb.JUPYTER_NOTEBOOK, eb.PROCESS})
COMPUTE = frozenset({eb.SIMPLE_COMPUTE})
STORAGE = frozenset({eb.SIMPLE_STORAGE})
VOLUMES = frozenset({eb.SIMPLE_VOLUME})
DATA = frozenset({eb.SIMPLE_DATA, eb.S3_DATA, eb.RUCIO_DATA, eb.IVOA_DATA, eb.SKAO_DATA})
COSTS = frozenset({eb.MINMAX_COST, eb.ABSTRACT_COST})
METRICS = frozenset({eb.MINMAX_METRIC, eb.ABSTRACT_METRIC})


def check_kinds(request: eb.ExecutionRequest) -> None:
    """Check the kind of every part of a request.

    Raises:
        BadRequestError: one is missing or unknown; the text says where.
    """
    if request.executable is not None:
        _check(request.executable, "executable", EXECUTABLES)
    if request.compute is not None:
        _check(request.compute, "compute", COMPUTE)
        _check_all(request.compute.volumes, "compute.volumes", VOLUMES)
    _check_all(request.storage, "storage", STORAGE)
    _check_all(request.data, "data", DATA, others=True)
    _check_all(request.costs, "costs", COSTS)
    _check_all(request.metrics, "metrics", METRICS)


def _check_all(
    parts: Iterable[BaseModel] | None, where: str, known: frozenset[str], *, others: bool = False
) -> None:
    for index, part in enumerate(parts or ()):
        _check(part, f"{where}[{index}]", known, others=others)


def _check(part: BaseModel, where: str, known: frozenset[str], *, others: bool = False) -> None:
    """``others``: sites may have kinds of their own, which are answered NO by who does not know them."""
    if "kind" not in part.model_fields_set:
        raise BadRequestError(f"{where}.kind is missing; known: {', '.join(sorted(known))}")
    kind = getattr(part, "kind", None)
    if kind not in known and not others:
        raise BadRequestError(f"{where}.kind is unknown: {kind!r}; known: {', '.join(sorted(known))}")
