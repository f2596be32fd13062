"""What is refused in a document, or told of one that cannot be read, in words with its file and line.

cwltool and its libraries are sure of what a document holds, and say of the rest what Python says. Whatever
comes up while a document is loaded leaves here as an error that names the document, what is wrong with it and
what to do. This module must not know what is done with a process that has been loaded.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import cwltool.load_tool
from cwltool.errors import GraphTargetMissingException, UnsupportedRequirement, WorkflowException
from cwltool.process import Process, shortname
from cwltool.update import ALLUPDATES
from cwltool.workflow import Workflow
from rdflib.util import guess_format
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from schema_salad.exceptions import ValidationException
from schema_salad.sourceline import SourceLine

from wes_bridge.cwl.errors import InvalidWorkflowError

_LOG = logging.getLogger(__name__)
_TO_USER = logging.getLogger("cwltool")
"""What is said here is in the run's log."""
_PREFIX = re.compile(r"^(?:cwl:|https://w3id.org/cwl/cwl#)")
_NEWER = re.compile(r"v1\.(?:[3-9]|\d\d)(?:\D.*)?\Z")
_OLDER = re.compile(r"(?:sbg:)?draft-")
TOLD = (ValidationException, WorkflowException, YAMLError, InvalidWorkflowError)
"""Errors whose text is for the user."""
KNOWN_VERSIONS = "v1.0, v1.1 and v1.2"
_REPORT = (
    "; look at what the document says there; if it is valid CWL, this is a fault of wes-bridge: please report"
    " it, with the document"
)
_ARCHIVES = {b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip archive", b"BZh": "a bzip2 archive"}
_fetch_document = cwltool.load_tool.fetch_document
_building: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("building", default=())


def require_version(document: Any, url: str) -> None:
    """Refuse a version of CWL that cannot be run here; a document without one is for the loader to judge.

    Raises:
        UnsupportedRequirement: a version newer than this program.
        ValidationException: no version of CWL, or one before v1.0.
    """
    said = document.get("cwlVersion") if isinstance(document, dict) else None
    if not isinstance(said, str):
        return
    version = _PREFIX.sub("", said)
    if version in ALLUPDATES:  # cwltool's own development version too: documents are brought to it
        return
    here = SourceLine(document, "cwlVersion", str)
    if _NEWER.match(version):
        raise UnsupportedRequirement(
            here.makeError(f"cwlVersion {version} cannot be run here yet; {KNOWN_VERSIONS} can")
        )
    advice = "correct it"
    if _OLDER.match(version):
        advice = "bring the document to v1.0 or later, for example with cwl-upgrader"
    text = f"cwlVersion {version!r} is none of {KNOWN_VERSIONS}: {advice}"
    raise ValidationException(here.makeError(text) or f"{url}: {text}")


def fetch_document(*args: Any, **kwargs: Any) -> tuple[Any, Any, str]:
    """As cwltool's, of a version of CWL that can be run here."""
    context, document, url = _fetch_document(*args, **kwargs)
    require_version(document, url)
    return context, document, url


def format_of_schema(name: str) -> str | None:
    """In which language an ontology is written, by its name: of those that refer to nothing else. JSON-LD
    names contexts, which rdflib would fetch from wherever they are."""
    found = guess_format(name)
    return found if found in ("xml", "turtle", "n3", "nt") else None


def refuse_archive(content: bytes, url: str) -> None:
    """Refuse a file with documents in it.

    Raises:
        ValidationException: names its kind.
    """
    for start, kind in _ARCHIVES.items():
        if content.startswith(start):
            raise ValidationException(
                f"{url} is {kind} and not a CWL document: unpack it, and give the workflow's file"
            )


def not_text(content: bytes, url: str, error: UnicodeDecodeError) -> ValidationException:
    """What to say of a document that is no text.

    Raises:
        ValidationException: it is an archive.
    """
    refuse_archive(content, url)
    return ValidationException(
        f"{url} is not a CWL document: it is no text (byte {error.start} is not UTF-8)"
    )


@contextlib.contextmanager
def building(document: Any) -> Iterator[None]:
    """While a process is made of its document: circles are refused, and surprises told with file and line.

    Raises:
        ValidationException: see there.
    """
    name = str(document.get("id", "")) if isinstance(document, dict) else ""
    above = _building.get()
    if name and name in above:
        raise ValidationException(_circle(document, (*above[above.index(name) :], name)))
    token = _building.set((*above, name))
    try:
        yield
    except (*TOLD, OSError, MemoryError, RecursionError, StopIteration):
        raise
    except Exception as error:
        _LOG.debug("surprised by %s", name, exc_info=True)
        kind = document.get("class", "document") if isinstance(document, dict) else "document"
        what = f"this {kind} cannot be loaded ({_python(error)}){_REPORT}"
        raise ValidationException(SourceLine(document, None, str).makeError(what)) from error
    finally:
        _building.reset(token)


def warn_of_doubles(process: Process) -> None:
    """Warn of two inputs, outputs or steps of one name; an input and an output may share theirs."""
    for field in ("inputs", "outputs", "steps"):
        seen: set[str] = set()
        for item in process.tool.get(field) or ():
            name = str(item.get("id", ""))
            if name and name in seen:
                where = str(process.tool.get("id", "")).partition("#")[0]
                text = (
                    f"{where}: two of the {field} have the name {shortname(name)!r}; give each its own name"
                )
                _TO_USER.warning("%s", text)
            seen.add(name)


def _circle(document: Any, names: tuple[str, ...]) -> str:
    shown = " -> ".join(name.rpartition("/")[2] for name in names)
    text = f"the workflow runs itself ({shown}), which never ends: let one of its steps run something else"
    return str(SourceLine(document, "id", str).makeError(text))


def invalid(error: BaseException, url: str) -> InvalidWorkflowError:
    """Any error of loading, as ours.

    Args:
        error: the loader's, or Python's.
        url: of the main document.
    """
    if isinstance(error, InvalidWorkflowError):
        return error
    return InvalidWorkflowError(_told(error, url))


def _told(error: BaseException, url: str) -> str:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    found = _yaml_error(error)
    if isinstance(error, RecursionError):
        text = f"{url} is nested too deeply: does it import itself?"
    elif isinstance(error, StopIteration):  # schema-salad's, on a text without any value
        text = f"{url} is empty, so it is not a CWL document: its top level must be a mapping"
    elif found is not None:
        text = _with_place(found, url)
    elif isinstance(error, GraphTargetMissingException):
        text = _unnamed(str(error), url, name)
    elif isinstance(error, TOLD):
        text = str(error) if name in str(error) else f"{url}: {error}"
    else:
        _LOG.debug("surprised by %s", url, exc_info=error)
        text = f"{url} cannot be read as CWL ({_python(error)}){_REPORT}"
    return text


def _unnamed(text: str, url: str, name: str) -> str:
    """What to say of a ``$graph`` without a main process; cwltool's text ends with the names in it."""
    names = text.partition("one of ")[2]
    if not names.strip("#"):
        return f"{url}: its $graph holds no process"
    return f"{url}: its $graph holds {names} and no #main; name one of them: {name}#NAME"


def _yaml_error(error: BaseException) -> MarkedYAMLError | None:
    """What the YAML parser said, which schema-salad cannot repeat when it says no place for it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MarkedYAMLError):
            return seen if not isinstance(error, ValidationException) else None
        seen = seen.__cause__ or seen.__context__
    return None


def _with_place(error: MarkedYAMLError, url: str) -> str:
    mark = error.problem_mark or error.context_mark
    what = error.problem or error.context or "not valid YAML"
    where = f"{mark.name or url}:{mark.line + 1}:{mark.column + 1}" if mark else url
    return f"{where}: {what}"


def _python(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def refuse_operations(process: Process, place: tuple[str, ...] = ()) -> None:
    """Refuse a workflow with a step that only says that there is one.

    Raises:
        WorkflowException: names the step.
    """
    if process.tool["class"] == "Operation":
        where = f"step {'/'.join(place)!r}" if place else "the document"
        here = SourceLine(process.tool, "class", str)
        raise WorkflowException(
            here.makeError(
                f"{where} is an abstract Operation, which says what is done and not how: give it a tool or"
                " workflow to run"
            )
        )
    for step in process.steps if isinstance(process, Workflow) else ():
        refuse_operations(step.embedded_tool, (*place, shortname(step.id)))
