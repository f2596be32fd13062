"""Some of cwltool replaced by what does the same in less time, some faults mended, one class made patient.

cwltool's ``uniquename`` probes a process-wide set name by name, which is quadratic in the width of a scatter
and leaks from run to run. ``do_eval`` goes through all of a step's inputs also where there is no expression,
and its walks through objects ask abstract classes what everything is. Everything that reaches into cwltool
from outside is put in place by :func:`install`, so that a new cwltool can be checked against it.
"""

from __future__ import annotations

import itertools
import logging
import posixpath
import re
from typing import Any

import cwl_utils.types
import cwltool.command_line_tool
import cwltool.process
import cwltool.utils
import cwltool.workflow
import cwltool.workflow_job
from cwl_utils.expression import needs_parsing
from cwl_utils.types import CWLDirectoryType, CWLFileType, is_file
from cwltool.builder import Builder
from cwltool.context import RuntimeContext, getdefault
from cwltool.errors import WorkflowException

from wes_bridge.cwl.files import contents
from wes_bridge.cwl.files.path_mapper import UrlPathMapper
from wes_bridge.cwl.loading import circles, document_checks, quick_documents, shared_tools, type_check
from wes_bridge.cwl.tools import binding, decimals, nested_types
from wes_bridge.cwl.walking import scatter_check, waking
from wes_bridge.cwl.walking.waking import WakingWorkflowJob

_logger = logging.getLogger("cwltool")
_serial = itertools.count(1)
_do_eval = Builder.do_eval


def unique_name(stem: str, names: set[str] | None = None) -> str:
    """A name nobody else has: the stem as it is when it already is unique by construction.

    The engine names steps by path and scatter index; only cwltool's own names for log lines come here.
    """
    return f"{stem}#{next(_serial)}" if names is None else _probe(stem, names)


def _probe(stem: str, names: set[str]) -> str:
    name = next(
        name
        for name in itertools.chain([stem], (f"{stem}_{n}" for n in itertools.count(2)))
        if name not in names
    )
    names.add(name)
    return name


def do_eval(
    builder: Builder,
    ex: Any,
    context: Any = None,
    recursive: bool = False,
    strip_whitespace: bool = True,
) -> Any:
    """The value of an expression; a text that has none is itself.

    cwltool goes through all of the step's inputs first, for each glob pattern and name of a stream.
    """
    if isinstance(ex, str) and not needs_parsing(ex):
        return ex
    return binding.named(_do_eval(builder, ex, context, recursive, strip_whitespace))


def check_adjust(
    accepted: re.Pattern[str], builder: Builder, item: CWLFileType | CWLDirectoryType
) -> CWLFileType | CWLDirectoryType:
    """Give an input its path in the session, by its location and, other than cwltool's, its name.

    Raises:
        WorkflowException: it is called what no input may be called.
    """
    mapper = builder.pathmapper
    assert isinstance(mapper, UrlPathMapper)
    path = mapper.target_of(item)
    folder, _, name = path.rpartition("/")
    item["path"], item["basename"] = path, name
    if is_file(item):
        item["dirname"] = folder
        item["nameroot"], item["nameext"] = posixpath.splitext(name)
    if not accepted.match(name):
        raise WorkflowException(f"Invalid filename: {name!r} contains illegal characters")
    return item


class PatientWorkflowJob(WakingWorkflowJob):
    """A workflow that, told to go on after a failure, waits for what still runs.

    cwltool's gives up when a step has failed and none is ready at this moment, so that steps after one that
    is still running would never begin. Here the failure shows only when nothing runs any more.
    """

    def __init__(self, workflow: Any, runtimeContext: RuntimeContext) -> None:
        self._status = ""
        self._goes_on = getdefault(runtimeContext.on_error, "stop") == "continue"
        super().__init__(workflow, runtimeContext)

    @property
    def processStatus(self) -> str:
        """How it goes."""
        running = self._goes_on and self.running
        return "success" if running and self._status != "success" else self._status

    @processStatus.setter
    def processStatus(self, status: str) -> None:
        if self._status != "permanentFail":
            self._status = status


def install() -> None:
    """Put the replacements in place, once per process."""
    quick_documents.install()
    decimals.install()
    circles.install()
    shared_tools.install()
    waking.install()
    binding.install()
    contents.install()
    nested_types.install()
    scatter_check.install()
    document_checks.install()
    Builder.do_eval = do_eval
    # What is loaded or collected is made of dicts and lists, ruamel's too; to ask that takes a tenth as long.
    cwltool.utils.MutableMapping = cwl_utils.types.Mapping = dict
    cwltool.utils.MutableSequence = list
    cwltool.process.uniquename = unique_name
    cwltool.command_line_tool.uniquename = unique_name
    cwltool.command_line_tool.check_adjust = check_adjust
    cwltool.workflow_job.uniquename = unique_name
    cwltool.workflow.WorkflowJob = PatientWorkflowJob
    cwltool.workflow.static_checker = type_check.static_checker
