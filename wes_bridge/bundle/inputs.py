"""What inputs a workflow or tool declares, as far as a client needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wes_bridge.bundle.secondary import Wanted, named, short_name, wanted_for

Importer = Callable[[str], Any]
"""Gives what an ``$import`` of this target holds; ``None`` when it cannot be had."""


@dataclass(frozen=True)
class Input:
    """One declared input.

    Attributes:
        name: without the document's id.
        kind: its type with ``?`` and ``[]`` written out: a name, a dict, or a list of them.
        default: ``None`` when there is none.
        doc: for people.
        wanted: the secondary files its files have.
    """

    name: str
    kind: Any
    default: Any
    doc: str
    wanted: Wanted

    @property
    def optional(self) -> bool:
        """Whether it may be left out."""
        return self.default is not None or (isinstance(self.kind, list) and "null" in self.kind)


def main_process(data: Any, fragment: str = "") -> dict[str, Any] | None:
    """The process meant by a document and a fragment: of a ``$graph`` that with the id, else ``main``.

    Returns:
        ``None`` when there is none such.
    """
    if not isinstance(data, dict):
        return None
    graph = data.get("$graph")
    if not isinstance(graph, list):
        return data
    processes = [item for item in graph if isinstance(item, dict)]
    wanted = fragment or "main"
    for item in processes:
        if str(item.get("id", "")).rpartition("#")[2] == wanted:
            return item
    if fragment:
        return None
    return processes[0] if len(processes) == 1 else None


def declared_inputs(
    data: Any, fragment: str = "", load: Importer | None = None, version: str | None = None
) -> dict[str, Input] | None:
    """The inputs of the process meant by a document and a fragment, by name.

    Args:
        data: of the document.
        fragment: without ``#``.
        load: reads imports; without it they are passed over.
        version: ``cwlVersion`` where the process does not say it.

    Returns:
        ``None`` when the document holds no such process.
    """
    process = main_process(data, fragment)
    if process is None or "inputs" not in process:
        return None
    version = str(process.get("cwlVersion") or (data.get("cwlVersion") if data else "") or version or "v1.2")
    return read_inputs(process, version, load or _nothing)


def read_inputs(process: dict[str, Any], version: str, load: Importer) -> dict[str, Input]:
    """The inputs of one process object."""
    schemas = _schemas(process, load)
    result = {}
    for name, item in named(_imported(process.get("inputs"), load), "id"):
        kind = expand_type(_imported(item.get("type"), load), schemas)
        doc = item.get("doc", item.get("label", ""))
        result[name] = Input(
            name=name,
            kind=kind,
            default=item.get("default"),
            doc="\n".join(map(str, doc)) if isinstance(doc, list) else str(doc or ""),
            wanted=wanted_for(kind, item.get("secondaryFiles"), version, schemas),
        )
    return result


def expand_type(kind: Any, schemas: dict[str, Any]) -> Any:
    """A type with its abbreviations (``File[]?``) written out and named types filled in."""
    if isinstance(kind, list):
        flat: list[Any] = []
        for item in kind:
            expanded = expand_type(item, schemas)
            flat += expanded if isinstance(expanded, list) else [expanded]
        return flat
    if not isinstance(kind, str):
        return kind
    if kind.endswith("?"):
        inner = expand_type(kind[:-1], schemas)
        return ["null", *(inner if isinstance(inner, list) else [inner])]
    if kind.endswith("[]"):
        return {"type": "array", "items": expand_type(kind[:-2], schemas)}
    return schemas.get(short_name(kind), kind)


def _schemas(process: dict[str, Any], load: Importer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section in ("requirements", "hints"):
        block = process.get(section)
        if isinstance(block, dict):
            block = [{"class": name, **item} for name, item in block.items() if isinstance(item, dict)]
        for item in block if isinstance(block, list) else []:
            if isinstance(item, dict) and item.get("class") == "SchemaDefRequirement":
                for kind in _each(_imported(item.get("types"), load), load):
                    if isinstance(kind, dict) and isinstance(kind.get("name"), str):
                        found[short_name(kind["name"])] = kind
    return found


def _each(kinds: Any, load: Importer) -> list[Any]:
    result: list[Any] = []
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        item = _imported(kind, load)
        if isinstance(item, dict) and "$graph" in item:
            item = item["$graph"]
        result += item if isinstance(item, list) else [item]
    return result


def _imported(value: Any, load: Importer) -> Any:
    if isinstance(value, dict) and isinstance(value.get("$import"), str):
        return load(value["$import"])
    return value


def _nothing(_target: str) -> None:
    return None
