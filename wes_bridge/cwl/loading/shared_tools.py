"""Documents that many steps name are resolved once, and a tool is built once for all its steps.

For each step whose ``run`` names a document, cwltool resolves, converts and checks that whole document again,
and builds the tool again: the time of loading grows with the square of the number of steps. What comes of it
differs only by the requirements and hints that a step hands down, so these and the document's name are the
key under which a tool is kept. Steps may share a tool as the elements of a scatter do: what belongs to one
job is in its ``Builder`` and its job, never in the tool. It must not know what a workflow is for, nor how it
is walked.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urldefrag

import cwltool.load_tool
from cwltool.context import LoadingContext
from cwltool.load_tool import make_tool
from cwltool.process import Process
from schema_salad.sourceline import cmap

_load_tool = cwltool.load_tool.load_tool
_resolve_and_validate = cwltool.load_tool.resolve_and_validate_document
_VERSION = "cwlVersion"


@dataclass
class Shared:
    """What one load has worked out already.

    Attributes:
        files: addresses, without fragments, of documents whose references are resolved.
        tools: by their address and what is handed down to them.
    """

    files: set[str] = field(default_factory=set)
    tools: dict[tuple[str, str], Process] = field(default_factory=dict)


class SharingContext(LoadingContext):
    """cwltool's LoadingContext for one load; its copies know what the others have worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = Shared()


def resolve_and_validate_document(
    context: SharingContext, document: Any, url: str
) -> tuple[SharingContext, str]:
    """Resolve a document, unless that was done, and check the process that the address names.

    Args:
        context: of the load.
        document: the whole document, as fetched.
        url: of the document, perhaps with a fragment that names a process in it.
    """
    file = urldefrag(url)[0]
    context.skip_resolve_all = file in context.shared.files
    if context.skip_resolve_all:  # cwltool would go through all of it, and see that nothing is left to do
        document = cmap({name: document[name] for name in (_VERSION,) if name in document}, fn=file)
    resolved, url = _resolve_and_validate(context, document, url)
    if "cwl:tool" not in document:  # a job, which names a document elsewhere
        context.shared.files.add(file)
    return resolved, url


def load_tool(url: str, context: LoadingContext) -> Process:
    """The process that a step runs: one that was built before, if the step hands the same down to it."""
    if not isinstance(context, SharingContext):
        return _load_tool(url, context)
    key = url, _handed_down(context)
    tool = context.shared.tools.get(key)
    if tool is None:
        tool = context.shared.tools[key] = make_tool_of(url, context)
    return tool


def make_tool_of(url: str, context: SharingContext) -> Process:
    """Fetch, resolve, check and build."""
    context, document, url = cwltool.load_tool.fetch_document(url, context)
    return make_tool(*reversed(resolve_and_validate_document(context, document, url)))


def own(process: Process) -> Process:
    """A copy of a shared process for one step, which may add to its record of inputs."""
    mine = copy.copy(process)
    mine.inputs_record_schema = copy.deepcopy(process.inputs_record_schema)
    return mine


def _handed_down(context: LoadingContext) -> str:
    """Requirements and hints from around a tool, as text. Its address alone tells which overrides it has."""
    return json.dumps([context.requirements, context.hints], sort_keys=True, default=str)
