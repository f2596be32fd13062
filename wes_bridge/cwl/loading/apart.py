"""Workflows are loaded in processes that can be killed: a document may do to its process whatever it can.

The worker asks with a :class:`Question`; a child of its nursery (:mod:`~wes_bridge.cwl.loading.forks`) loads,
and gives away what is walked, without what only loading needs. What a document costs is its own run's: time
and memory are limited, and a run that is cancelled frees what its loading used at once.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from cwltool.errors import UnsupportedRequirement
from cwltool.process import Process
from cwltool.workflow import Workflow
from rdflib import OWL, RDFS, Graph
from schema_salad.ref_resolver import NormDict

from wes_bridge.config import EngineConfig, FetchConfig
from wes_bridge.cwl.errors import InvalidWorkflowError, unexpected
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.local_files import Names
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading import schemas
from wes_bridge.cwl.loading.forks import (
    AnswerSizeError,
    CrashError,
    LimitError,
    Limits,
    MemoryLimitError,
    Nursery,
    TimeError,
    WallTimeError,
)
from wes_bridge.cwl.loading.load import JobOrder, LoadedRun, load
from wes_bridge.cwl.log import Overheard
from wes_bridge.cwl.text import invalid_text
from wes_bridge.model.expansion import excess
from wes_bridge.model.units import GIB

_MOST_LINES = 1000
"""Of the run's log that one load may write."""
_LONGEST_LINE = 100_000
_PAUSE = 5.0
"""Seconds between working out the schemas of one version of CWL and those of the next."""
_MOST_ANSWER = 128 * 1024**2
"""Bytes of what was loaded, as it is given away."""
_PEAK = re.compile(r"VmPeak:\s+(\d+) kB")
_RECURSION = 5000
_WARMING = """\
cwlVersion: v1.2
class: Workflow
inputs: {word: string}
outputs: {out: {type: File, outputSource: echo/out}}
steps:
  echo:
    in: {word: word}
    out: [out]
    run:
      class: CommandLineTool
      baseCommand: echo
      inputs: {word: {type: string, inputBinding: {position: 1}}}
      outputs: {out: stdout}
"""


@dataclass(frozen=True)
class Question:
    """What is to be loaded; see :func:`wes_bridge.cwl.loading.load.load`.

    Attributes:
        attachments: the run's folder of attachments, whose path is left out of messages.
    """

    workflow_url: str
    params: JobOrder
    base_url: str
    policy: Policy
    attachments: Path
    skip_schemas: bool = False


@dataclass(frozen=True)
class _Answer:
    """What came of it: a process to walk, or an error; files that are named; lines for the log."""

    loaded: LoadedRun | None = None
    names: Names = field(default_factory=lambda: ({}, {}))
    error: Exception | None = None
    lines: list[tuple[int, str]] = field(default_factory=list)


def start() -> Nursery:
    """The processes that load; before this process has threads."""
    return Nursery(_work, _Preparation(), "wes-loading")


def written(question: Question) -> bytes:
    """As :func:`ask` takes it; for a thread, since inputs can be long.

    Raises:
        InvalidWorkflowError: the inputs cannot be given to anybody.
    """
    try:
        return pickle.dumps(question)
    except RecursionError as error:
        raise InvalidWorkflowError("the inputs are nested too deeply") from error


async def ask(nursery: Nursery, url: str, question: bytes, engine: EngineConfig) -> bytes:
    """Have it loaded; cancelling ends it at once.

    Args:
        nursery: whose child does it.
        url: of the workflow, for messages.
        question: as written.
        engine: has the limits.

    Returns:
        For :func:`read`, which should be called in a thread.

    Raises:
        InvalidWorkflowError: it went beyond a limit, or its process crashed.
    """
    limits = Limits(engine.load_timeout, engine.load_wall, int(engine.load_memory_gib * GIB), _MOST_ANSWER)
    try:
        return await nursery.do(question, limits)
    except (LimitError, CrashError) as error:
        text = f"{url} cannot be loaded: {_words(error, engine)}"
        raise InvalidWorkflowError(text) from error


def _words(error: LimitError | CrashError, engine: EngineConfig) -> str:
    if isinstance(error, TimeError):
        words = f"it took more than {engine.load_timeout:g} s of processor time (engine.load_timeout)"
    elif isinstance(error, WallTimeError):
        words = f"it took longer than {engine.load_wall:g} s (engine.load_wall)"
    elif isinstance(error, MemoryLimitError):
        words = f"it needs more than {engine.load_memory_gib:g} GiB of memory (engine.load_memory_gib)"
    elif isinstance(error, AnswerSizeError):
        size = _MOST_ANSWER // 1024**2
        words = f"with its inputs it is larger than {size} MiB; give long lists in a file that a step reads"
    else:
        return f"it made its process end ({error}); look for what is nested very deeply in it"
    return f"{words} and was stopped; make the workflow or its inputs smaller, or ask the site to allow more"


def read(answer: bytes, log: Overheard, policy: Policy) -> LoadedRun:
    """What was loaded; and tell the log what was said meanwhile, and the policy which files are named.

    Raises:
        InvalidWorkflowError: as :func:`~wes_bridge.cwl.loading.load.load`.
        cwltool.errors.UnsupportedRequirement: likewise.
        OSError: likewise.
    """
    told: _Answer = pickle.loads(answer)  # noqa: S301 - of our own child
    for level, text in told.lines:
        log.write(level, text)
    if told.error is not None:
        raise told.error
    assert told.loaded is not None
    policy.files.take(told.names)
    return told.loaded


# ---- in the nursery --------------------------------------------------------------------------------


class _Preparation:
    """Has what children would else work out each for itself: schemas, and all that is made at first use."""

    def __init__(self) -> None:
        self._steps: Iterator[float] = self._go()

    def __call__(self) -> float | None:
        """Do some; returns seconds until it should be called again, None when nothing is left."""
        schemas.preload_kept()  # also what a child has worked out
        return next(self._steps, None)

    @staticmethod
    def _go() -> Iterator[float]:
        pause = 0.0
        for version in schemas.VERSIONS:
            if not schemas.is_here(version):
                yield pause
                pause = _PAUSE
            schemas.preload(version)
            if version == schemas.VERSIONS[0]:
                _warm()
                yield 0.0


def _warm() -> None:
    """Load something: the second time takes a fifth of the first."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "warming.cwl").resolve()
        path.write_text(_WARMING)
        policy = Policy(FetchConfig(), [path.parent])
        base = f"{path.parent.as_uri()}/"
        _dumped(_Answer(_load(Question(path.as_uri(), {"word": "x"}, base, policy, path.parent))))


# ---- in a child ------------------------------------------------------------------------------------


class _Heard(Overheard):
    """What is said while a workflow is loaded."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.lines: list[tuple[int, str]] = []

    def write(self, level: int, text: str) -> None:
        """Keep it, within reason."""
        if len(self.lines) < _MOST_LINES:
            self.lines.append((level, text[:_LONGEST_LINE]))


def _work(question: bytes) -> bytes:
    asked: Question = pickle.loads(question)  # noqa: S301 - of the worker that this is a part of
    log = _Heard(asked.attachments)
    log.activate()
    try:
        answer = _Answer(_load(asked), asked.policy.files.names, lines=log.lines)
        return _dumped(answer)
    except MemoryError:
        raise
    except Exception as error:
        if _is_full():  # and somebody took the MemoryError for something else
            raise MemoryError from error
        return _dumped(_Answer(error=_portable(error), lines=log.lines))


def _load(asked: Question) -> LoadedRun:
    files = fs_access(asked.policy)(asked.base_url)
    loaded = load(
        asked.workflow_url,
        asked.params,
        asked.base_url,
        asked.policy,
        files,
        skip_schemas=asked.skip_schemas,
    )
    _refuse(loaded.job_order, "the inputs")
    graphs: dict[int, Graph] = {}
    for process in _processes(loaded.process, {}):
        name = str(process.tool.get("id", asked.workflow_url))
        if "\0" in name:
            raise InvalidWorkflowError(f"{name}: a name has a NUL character; give it another")
        _refuse(process.tool, name)
        process.doc_loader = process.doc_schema = None
        graph = process.formatgraph
        if graph is not None:
            process.formatgraph = graphs.setdefault(id(graph), _of_formats(graph))
    return loaded


def _refuse(document: Any, name: str) -> None:
    """Refuse what nobody else could hold."""
    if (why := excess(document)) is not None:
        raise InvalidWorkflowError(f"{name}: {why}")
    wrong = invalid_text(document)
    if wrong is not None:
        raise InvalidWorkflowError(f"{name}: it has {wrong}")


def _processes(process: Process, seen: dict[int, Process]) -> list[Process]:
    """All processes in it, each once; steps are some, too."""
    if id(process) not in seen:
        seen[id(process)] = process
        for step in process.steps if isinstance(process, Workflow) else ():
            seen[id(step)] = step
            _processes(step.embedded_tool, seen)
    return list(seen.values())


def _of_formats(graph: Graph) -> Graph:
    """What is asked of ontologies later: which formats are kinds of which."""
    slim = Graph()
    for relation in (RDFS.subClassOf, OWL.equivalentClass):
        for triple in graph.triples((None, relation, None)):
            slim.add(triple)
    return slim


def _portable(error: Exception) -> Exception:
    """An error that can be given away, with nothing but its text."""
    if isinstance(error, UnsupportedRequirement):
        unsupported: Exception = UnsupportedRequirement(str(error))
        return unsupported
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror or str(error), error.filename)
    if isinstance(error, InvalidWorkflowError):
        return InvalidWorkflowError(str(error))
    return InvalidWorkflowError(unexpected(error))


def _is_full() -> bool:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    try:
        peak = _PEAK.search(Path("/proc/self/status").read_text())
    except OSError:
        return False
    return limit != resource.RLIM_INFINITY and peak is not None and int(peak[1]) * 1024 > 0.9 * limit


_REDUCED: dict[type, Callable[[Any], Any]] = {
    NormDict: lambda thing: (NormDict, (thing.normalize,), None, None, iter(thing.items())),
    requests.Session: lambda _thing: (requests.Session, ()),
}


class _Pickler(pickle.Pickler):
    """Asks a table, and not a function for each object."""

    dispatch_table = {**copyreg.dispatch_table, **_REDUCED}


def _dumped(answer: _Answer) -> bytes:
    buffer = io.BytesIO()
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION))  # several calls for each level
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(answer)
    return buffer.getvalue()
