"""Checking a workflow and its inputs with cwltool as a library, without running anything."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wes_bridge.bundle import BundleError, make_bundle
from wes_bridge.bundle.build import locate


def check(workflow: str, job: str | None = None, arguments: Sequence[str] = ()) -> list[str]:
    """What is wrong with a workflow and, if given, its inputs; one text each, with ``file:line`` where known.

    JavaScript is not checked: it is evaluated when the workflow runs.
    """
    try:
        place = locate(workflow)
        params = None
        if job is not None or arguments:
            params = make_bundle(workflow, job, arguments=arguments, shared=True).params
        elif place.path is not None:
            bundle = make_bundle(workflow)  # finds files that are not there; a job file names its tool
            if bundle.params:
                params = make_bundle(workflow, shared=True).params
                workflow = _unquoted(make_bundle(workflow, shared=True).workflow_url)
    except BundleError as error:
        return error.problems
    return _check_with_cwltool(workflow, params)


def _unquoted(url: str) -> str:
    from urllib.parse import unquote  # noqa: PLC0415

    return unquote(url.removeprefix("file://"))


def _check_with_cwltool(workflow: str, params: dict[str, Any] | None) -> list[str]:
    from cwltool.context import LoadingContext  # noqa: PLC0415
    from cwltool.errors import WorkflowException  # noqa: PLC0415
    from cwltool.load_tool import load_tool  # noqa: PLC0415
    from cwltool.workflow import default_make_tool  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415
    from schema_salad.exceptions import ValidationException  # noqa: PLC0415

    warnings = _Warnings()
    for name in ("cwltool", "salad"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [warnings], False
    context = LoadingContext()
    context.construct_tool_object = default_make_tool
    context.disable_js_validation = True
    context.relax_path_checks = True
    path, hash_mark, fragment = workflow.partition("#")
    if Path(path).exists():
        workflow = os.path.abspath(path) + hash_mark + fragment  # noqa: PTH100
    try:
        process = load_tool(workflow, context)
        if params is not None:
            _check_job(process, params)
    except StopIteration:  # schema-salad's, on a text without any value
        return [f"{workflow}: is empty; a CWL workflow or tool is needed here"]
    except (ValidationException, WorkflowException, YAMLError, ValueError, TypeError) as error:
        text = str(error).replace("file://", "")
        return [text if Path(path).name in text else f"{workflow}: {text}"]
    except OSError as error:
        return [f"{workflow}: {error}"]
    return []


def _check_job(process: Any, params: dict[str, Any]) -> None:
    from cwltool.process import INPUT_OBJ_VOCAB, fill_in_defaults, shortname  # noqa: PLC0415
    from cwltool.stdfsaccess import StdFsAccess  # noqa: PLC0415
    from cwltool.utils import normalizeFilesDirs  # noqa: PLC0415
    from schema_salad.exceptions import ValidationException  # noqa: PLC0415
    from schema_salad.validate import validate_ex  # noqa: PLC0415

    job = {name: value for name, value in params.items() if ":" not in name}
    known = {shortname(item["id"]) for item in process.tool["inputs"]}
    unknown = [name for name in job if name not in known and name not in ("id", "$namespaces", "$schemas")]
    fill_in_defaults(process.tool["inputs"], job, StdFsAccess(""))
    normalizeFilesDirs(job)
    validate_ex(
        process.names.get_name("input_record_schema", None),
        job,
        strict=False,
        vocab=INPUT_OBJ_VOCAB,
    )
    if unknown:
        names, inputs = ", ".join(map(repr, unknown)), ", ".join(sorted(known))
        raise ValidationException(f"the workflow has no input {names} (its inputs: {inputs})")


class _Warnings(logging.Handler):
    """Keeps cwltool's log off the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Nothing: what matters is raised."""
