"""From a workflow's URL and a job order to a process ready to walk: load, check, resolve.

Blocking and CPU-bound, and schema-salad and cwltool keep caches of the whole process: it is done in a process
that loads nothing else meanwhile (``apart``, a planner, ``wes-bridge validate``).
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cwltool.builder import INPUT_OBJ_VOCAB
from cwltool.errors import UnsupportedRequirement, WorkflowException
from cwltool.load_tool import (
    default_loader,
    jobloaderctx,
    make_tool,
    resolve_overrides,
)
from cwltool.process import Process, add_sizes, fill_in_defaults, shortname
from cwltool.update import ORIGINAL_CWLVERSION
from cwltool.utils import (
    adjustDirObjs,
    normalizeFilesDirs,
    path_to_loc,
    trim_listing,
    visit_files,
    visit_files_directories,
)
from schema_salad.exceptions import ValidationException
from schema_salad.ref_resolver import Loader
from schema_salad.sourceline import SourceLine, cmap
from schema_salad.validate import validate_ex

from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.cwl.files.fs_access import RunFsAccess
from wes_bridge.cwl.files.names import check_name
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading import schemas
from wes_bridge.cwl.loading.document_checks import TOLD, fetch_document, invalid, refuse_operations
from wes_bridge.cwl.loading.documents import attached_instead
from wes_bridge.cwl.loading.fetching import guarded_fetcher
from wes_bridge.cwl.loading.shared_tools import SharingContext, resolve_and_validate_document
from wes_bridge.cwl.tools.context import run_context
from wes_bridge.cwl.tools.hints import check_hints
from wes_bridge.cwl.tools.process import make_process
from wes_bridge.data.workspace import url_path

_logger = logging.getLogger("cwltool")
_REQUIREMENTS = "https://w3id.org/cwl/cwl#requirements"
_OVERRIDES = "http://commonwl.org/cwltool#overrides"
_NO_MAPPING = "not a CWL document: its top level must be a mapping"
_WIDE, _INDENTED = re.compile(r"(?m)^ {20,}(?=\w)"), " " * 8
"""The validator aligns lines with what it says after a file's whole path, which is not shown."""
_NO_INPUTS = ("id", "$namespaces", "$schemas", "$graph", "$base")
JobOrder = dict[str, Any]


@dataclass(frozen=True)
class LoadedRun:
    """What is walked: a process and its complete job order (plain dicts and lists)."""

    process: Process
    job_order: JobOrder


def load(
    workflow_url: str,
    params: JobOrder,
    base_url: str,
    policy: Policy,
    files: RunFsAccess,
    *,
    skip_schemas: bool = False,
) -> LoadedRun:
    """Load a workflow and its job order.

    Args:
        workflow_url: absolute URL, perhaps with a fragment that names a process.
        params: the job order as submitted.
        base_url: what relative locations in ``params`` are relative to; ends with ``/``.
        policy: what may be read.
        files: to look at input files with.
        skip_schemas: do not fetch what ``$schemas`` names.

    Raises:
        InvalidWorkflowError: see there; also for what surprised the loader.
        cwltool.errors.UnsupportedRequirement: valid CWL that cannot be run here.
    """
    try:
        schemas.preload_kept()
        context = _context(policy, skip_schemas)
        job_order = _resolve_params(params, base_url, context)
        policy.files.name_in_job(job_order)
        process = _named_load(workflow_url, job_order, context)
        return LoadedRun(process, _complete(process, job_order, files, url_path(base_url)))
    except (UnsupportedRequirement, OSError, MemoryError):
        raise
    except Exception as error:
        raise _readable(error, workflow_url) from error


def validate(
    workflow_url: str,
    params: JobOrder | None,
    base_url: str,
    policy: Policy,
    files: RunFsAccess,
    *,
    skip_schemas: bool = False,
) -> list[str]:
    """Check as :func:`load` does, without having to run it: every process of a ``$graph`` without ``#main``.

    Args:
        params: the job order; None checks the document alone.

    Returns:
        The ids of the processes that a document holds of which none is meant; else none.

    Raises:
        InvalidWorkflowError: see there.
        cwltool.errors.UnsupportedRequirement: valid CWL that cannot be run here.
    """
    try:
        if params is not None:
            loaded = load(workflow_url, params, base_url, policy, files, skip_schemas=skip_schemas)
            validate_ex(
                loaded.process.names.get_name("input_record_schema", None),
                loaded.job_order,
                strict=False,
                logger=_logger,
                vocab=INPUT_OBJ_VOCAB,
            )
            _find_secondary_files(loaded, files)
            return []
        schemas.preload_kept()
        context, url = _resolve(workflow_url, {}, _context(policy, skip_schemas))
        found, _ = context.loader.resolve_ref(url)
        members = _members(found) if isinstance(found, list) else []
        for one in members or [url]:
            make_tool(one, context).visit(check_hints)
        return members
    except (UnsupportedRequirement, OSError, MemoryError):
        raise
    except Exception as error:
        raise _readable(invalid(error, workflow_url), workflow_url) from error


def _find_secondary_files(loaded: LoadedRun, files: RunFsAccess) -> None:
    """Refuse inputs without the secondary files that they must have, as a walk does when it begins."""
    folders = {name: "/nonexistent" for name in ("outdir", "tmpdir", "stagedir")}
    context = run_context("", lambda _: files, folders, checksums=False).at_tool(loaded.process.tool["id"])
    if loaded.process.tool["class"] != "ExpressionTool":
        loaded.process._init_job(loaded.job_order, context)


def _members(graph: list[Any]) -> list[str]:
    """The ids of a graph's processes; none when one of them is the main one."""
    names = [str(one["id"]) for one in graph if isinstance(one, dict) and "class" in one]
    return [] if any(name.endswith("#main") for name in names) else names


def _readable(error: BaseException, workflow_url: str) -> InvalidWorkflowError:
    text = str(error) if isinstance(error, TOLD) else str(invalid(error, workflow_url))
    return InvalidWorkflowError(_WIDE.sub(_INDENTED, text))


def _context(policy: Policy, skip_schemas: bool) -> SharingContext:
    context = SharingContext()
    context.skip_schemas = skip_schemas
    context.fetcher_constructor = guarded_fetcher(policy, trusts_links=skip_schemas)
    context.construct_tool_object = make_process
    context.disable_js_validation = True  # it needs Node.js; QuickJS says what is wrong when it evaluates
    context.relax_path_checks = True
    context.doc_cache = False
    context.loader = default_loader(context.fetcher_constructor, doc_cache=False)
    return context


def _resolve_params(params: JobOrder, base_url: str, context: SharingContext) -> JobOrder:
    """Absolute locations, ``$import`` and the like resolved; then plain types, which copy fast."""
    loader = Loader(jobloaderctx.copy(), fetcher_constructor=context.fetcher_constructor, doc_cache=False)
    resolved, _ = loader.resolve_all(cmap(params, fn=base_url), base_url, checklinks=False)
    return dict(plain(resolved))


def plain(value: Any) -> Any:
    """Dicts and lists of ruamel, which carry line numbers, as plain ones."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _named_load(workflow_url: str, job_order: JobOrder, context: SharingContext) -> Process:
    """Load; whatever is wrong is told with the document's name, which cwltool often leaves out."""
    try:
        return _load_process(workflow_url, job_order, context)
    except (UnsupportedRequirement, OSError, MemoryError):
        raise
    except Exception as error:
        raise invalid(error, workflow_url) from error


def _load_process(workflow_url: str, job_order: JobOrder, context: SharingContext) -> Process:
    context, url = _resolve(workflow_url, job_order, context)
    process = make_tool(url, context)
    refuse_operations(process)
    process.visit(check_hints)
    _apply_requirements(process, job_order)
    return process


def _resolve(workflow_url: str, job_order: JobOrder, context: SharingContext) -> tuple[SharingContext, str]:
    """A document read, checked and brought to the version that is run; and its URL there."""
    overrides = job_order.pop(_OVERRIDES, None)
    if overrides:
        document = cmap({_OVERRIDES: overrides}, fn=workflow_url)
        context.overrides_list = resolve_overrides(document, workflow_url, workflow_url)
    context, document, url = fetch_document(workflow_url, context)
    if not isinstance(document, dict):
        raise ValidationException(f"{workflow_url} is {_NO_MAPPING}")
    context, url = resolve_and_validate_document(context, document, url)
    return context, url


def _apply_requirements(process: Process, job_order: JobOrder) -> None:
    """Requirements given in the input object (CWL v1.1, "Requirements and hints")."""
    defaults = process.metadata.get("cwl:defaults") or {}
    given = job_order.pop(_REQUIREMENTS, None) or defaults.get(_REQUIREMENTS)
    if not given:
        return
    if process.metadata.get(ORIGINAL_CWLVERSION) == "v1.0":
        raise WorkflowException("cwl:requirements in the input object needs cwlVersion v1.1 or later")
    process.requirements.extend(given)


def _complete(process: Process, job_order: JobOrder, files: RunFsAccess, attachments: Path) -> JobOrder:
    """Defaults filled in, Files and Directories in normal form, formats expanded, inputs known to exist."""
    for name in ("cwl:tool", "id", "$namespaces", "$schemas", "https://w3id.org/cwl/cwl#tool"):
        if name != "id" or not _declares(process, "id"):
            job_order.pop(name, None)
    visit_files_directories(job_order, path_to_loc)
    _refuse_null(process, job_order)
    fill_in_defaults(process.tool["inputs"], job_order, files)
    job_order = plain(job_order)
    visit_files_directories(job_order, check_name)
    visit_files_directories(job_order, lambda item: _find_or_refuse(files, attachments, item))
    visit_files(job_order, lambda item: add_sizes(files, item))
    namespaces = Loader(dict(process.metadata.get("$namespaces") or {}))
    visit_files(job_order, lambda item: _expand_format(namespaces, item))
    adjustDirObjs(job_order, trim_listing)
    normalizeFilesDirs(job_order)
    return job_order


def _refuse_null(process: Process, job_order: JobOrder) -> None:
    """An input that is given null is not missing, as cwltool says: its type does not take null."""
    for port in process.tool["inputs"]:
        name = shortname(port["id"])
        if name in job_order and job_order[name] is None and "default" not in port:
            kinds = port["type"] if isinstance(port["type"], list) else [port["type"]]
            if "null" not in kinds:
                any_ = "Any, which takes everything but null"
                what = any_ if kinds == ["Any"] else json.dumps(port["type"])
                raise SourceLine(port, "type", WorkflowException).makeError(
                    f"Missing required input parameter {name!r}: it is given null and must be non-null,"
                    f" since its type is {what}"
                )


def check_outputs(process: Process, outputs: JobOrder) -> None:
    """Refuse outputs of another type than declared; null is let pass, as from a step that was skipped.

    Static findings about types are only warnings, so what really came out is checked here; not for what an
    ExpressionTool gives, which up to CWL v1.2 nobody checks.

    Raises:
        WorkflowException: names the output, its type and what it is.
    """
    if process.tool["class"] == "ExpressionTool":
        return
    schema = process.names.get_name("outputs_record_schema", None)
    for field in schema.fields:
        value = outputs.get(field.name)
        if value is not None and not validate_ex(field.type, value, raise_ex=False, vocab=INPUT_OBJ_VOCAB):
            shown = json.dumps(value, default=str)[:200]
            raise WorkflowException(f"output {field.name!r} is not of its declared type: {shown}")


def unknown_inputs(params: JobOrder, declared: list[str]) -> list[str]:
    """Names in a job order that are no inputs of the process, and nothing else that CWL knows there."""
    return [name for name in params if ":" not in name and name not in (*declared, *_NO_INPUTS)]


def _declares(process: Process, name: str) -> bool:
    return any(shortname(port["id"]) == name for port in process.tool["inputs"])


def _expand_format(namespaces: Loader, item: Any) -> None:
    if "format" in item:
        item["format"] = namespaces.expand_url(item["format"], "")


def _find_or_refuse(files: RunFsAccess, attachments: Path, item: Any) -> None:
    location = item.get("location", "")
    if not location.startswith("file:") or files.exists(location):
        return
    attached = attached_instead(location, attachments)
    if attached:
        item["location"] = attached
        return
    files.policy.files.check(url_path(location))
    raise ValidationException(f"Input {item['class']} {location} does not exist")
