"""Some of cwltool replaced by what does the same in less time, and one function made lenient.

cwltool's ``uniquename`` probes a process-wide set name by name, which is quadratic in the width of a scatter
and leaks from run to run. ``do_eval`` goes through all of a step's inputs also where there is no expression,
and its walks through objects ask abstract classes what everything is. Static type findings become warnings,
as older runners treat them. Everything that reaches into cwltool from outside is in this file and in those
that its :func:`install` names, so that a new cwltool can be checked against it.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

import cwl_utils.types
import cwltool.command_line_tool
import cwltool.process
import cwltool.utils
import cwltool.workflow
import cwltool.workflow_job
from cwl_utils.expression import needs_parsing
from cwltool.builder import Builder
from schema_salad.exceptions import ValidationException

from wes_bridge.engine import circles, quick_documents, shared_tools, waking

_logger = logging.getLogger("cwltool")
_serial = itertools.count(1)
_do_eval = Builder.do_eval
_static_checker = cwltool.workflow.static_checker


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
    return _do_eval(builder, ex, context, recursive, strip_whitespace)


def static_checker(*args: Any, **kwargs: Any) -> None:
    """Say what cwltool's checker of types across links finds, and go on: the run itself will tell."""
    try:
        _static_checker(*args, **kwargs)
    except ValidationException as finding:
        _logger.warning("Static type check: %s", finding)


def install() -> None:
    """Put the replacements in place, once per process."""
    quick_documents.install()
    circles.install()
    shared_tools.install()
    waking.install()
    Builder.do_eval = do_eval
    # What is loaded or collected is made of dicts and lists, ruamel's too; to ask that takes a tenth as long.
    cwltool.utils.MutableMapping = cwl_utils.types.Mapping = dict
    cwltool.utils.MutableSequence = list
    cwltool.process.uniquename = unique_name
    cwltool.command_line_tool.uniquename = unique_name
    cwltool.workflow_job.uniquename = unique_name
    cwltool.workflow.static_checker = static_checker
