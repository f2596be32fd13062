"""Checking a workflow and its inputs by the loader that runs use, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wes_bridge.bundle import BundleError, make_bundle
from wes_bridge.bundle.build import locate


@dataclass
class Checked:
    """What is to be said of a workflow.

    Attributes:
        problems: what is wrong, one text each, with ``file:line`` where known; none: it is valid.
        warnings: what may be wrong, and does not keep it from being run.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(
    workflow: str, job: str | None = None, arguments: Sequence[str] = (), *, skip_schemas: bool = False
) -> Checked:
    """Check a workflow and, if given, its inputs.

    JavaScript is not checked: it is evaluated when the workflow runs.
    """
    try:
        place = locate(workflow)
        if job is None and not arguments and place.path is not None:
            make_bundle(workflow, upload_from=["/"])  # finds files that are not there
        packed = make_bundle(workflow, job, arguments=arguments, shared=True)
    except BundleError as error:
        return Checked(error.problems)
    given = job is not None or bool(arguments) or bool(packed.params)  # a job file names its tool
    return _check_as_runs_do(packed.workflow_url, packed.params if given else None, skip_schemas)


def _check_as_runs_do(url: str, params: dict[str, Any] | None, skip_schemas: bool) -> Checked:
    from wes_bridge.config import FetchConfig  # noqa: PLC0415
    from wes_bridge.cwl.errors import InvalidWorkflowError  # noqa: PLC0415
    from wes_bridge.cwl.files.fs_access import fs_access  # noqa: PLC0415
    from wes_bridge.cwl.files.policy import Policy  # noqa: PLC0415
    from wes_bridge.cwl.loading.load import validate  # noqa: PLC0415
    from wes_bridge.cwl.log import Overheard  # noqa: PLC0415
    from wes_bridge.cwl.vocabulary import UnsupportedRequirement  # noqa: PLC0415
    from wes_bridge.data.workspace import file_url  # noqa: PLC0415
    from wes_bridge.engine.plan.main import prepare  # noqa: PLC0415

    prepare()
    base = file_url(Path.cwd()) + "/"
    fetch = FetchConfig(files=[Path("/")], only_named=True, private_hosts=["any"])  # it is the user who reads
    policy = Policy(fetch, [])
    heard, checked = Overheard(Path.cwd()), Checked()
    heard.activate()
    try:
        members = validate(url, params, base, policy, fs_access(policy)(base), skip_schemas=skip_schemas)
        if members:
            names = ", ".join(f"#{name.rpartition('#')[2]}" for name in members)
            checked.warnings.append(f"{url}: it holds {names} and no #main: a run must name one of them")
    except UnsupportedRequirement as error:
        checked.problems.append(f"Unsupported: {error}")
    except InvalidWorkflowError as error:
        checked.problems.append(str(error))
    except OSError as error:
        checked.problems.append(f"{url}: {error.strerror or error}: {error.filename or ''}")
    checked.warnings += heard.warnings
    checked.problems = [heard.readable(text).replace("file://", "") for text in checked.problems]
    checked.warnings = [heard.readable(text).replace("file://", "") for text in checked.warnings]
    return checked
