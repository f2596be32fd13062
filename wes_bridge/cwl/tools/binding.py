"""Inputs bound to a tool: cwltool's ``Builder.bind_input`` with what it leaves out.

Files of a default bring their secondary files (:mod:`~wes_bridge.cwl.tools.defaults`), files of older
documents are read as those say (:mod:`~wes_bridge.cwl.files.contents`), and what is wrong with an input is
told with its name.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import cwltool.builder
from cwltool.builder import Builder
from cwltool.errors import WorkflowException
from cwltool.process import shortname
from cwltool.utils import aslist
from schema_salad.exceptions import ValidationException

from wes_bridge.cwl.files.contents import note_version
from wes_bridge.cwl.tools.defaults import is_default
from wes_bridge.model.locations import is_elsewhere, is_web

_bind_input = Builder.bind_input
_check_format = cwltool.builder.check_format
_ALL_INPUTS = "input_record_schema"


class _FormatError(Exception):
    """A file of another format than wanted; the names of input and field are found on the way out."""

    def __init__(self, file: dict[str, Any], wanted: list[str]) -> None:
        super().__init__()
        self.names: list[str] = []
        self._file, self._wanted = file, wanted

    def __str__(self) -> str:
        name = self._file.get("basename") or self._file.get("location")
        given = self._file.get("format")
        said = f"is of format {given}" if given else "says no format"
        advice = "give a file of that format" if given else "give the File object its format"
        wanted = " or ".join(self._wanted)
        return f"input {'.'.join(self.names)!r}: {name} {said}, and {wanted} is wanted; {advice}"


def check_format(actual: Any, wanted: Any, ontology: Any) -> None:
    """As cwltool's; what does not fit is told with both formats."""
    for file in aslist(actual):
        try:
            _check_format(file, wanted, ontology)
        except ValidationException as error:
            raise _FormatError(file, [str(one) for one in aslist(wanted)]) from error


def _is_handed_on(builder: Builder, datum: dict[str, Any]) -> bool:
    """Whether a File is elsewhere, where the service cannot look for files beside it."""
    location = datum.get("location")
    if datum.get("class") != "File" or not isinstance(location, str):
        return False
    if not is_elsewhere(location) or is_web(location):
        return False
    return builder.fs_access.policy.objects_of(location) is None


def _required_only(schema: dict[str, Any]) -> dict[str, Any]:
    """A field without the secondary files that may be missing: one that is not there would fail the step, and
    only the job can say that it is."""
    if "secondaryFiles" not in schema:
        return schema
    needed = [one for one in aslist(schema["secondaryFiles"]) if one.get("required") is not False]
    return {**schema, "secondaryFiles": needed}


def _quote_names(datum: dict[str, Any]) -> None:
    """Quote the names in the URLs of secondary files: cwltool appends a name as it is."""
    location = datum.get("location")
    if not isinstance(location, str) or not is_elsewhere(location) or is_web(location):
        return
    folder = location[: location.rfind("/") + 1]
    for one in datum.get("secondaryFiles") or ():
        name = one.get("basename", "")
        if name and one.get("location") == folder + name:
            one["location"] = folder + quote(name)


def bind_input(
    self: Builder,
    schema: dict[str, Any],
    datum: Any,
    discover_secondaryFiles: bool,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """As cwltool's, which looks for secondary files only where ``discover_secondaryFiles`` is set."""
    if not discover_secondaryFiles and "secondaryFiles" in schema:
        discover_secondaryFiles = is_default(schema, datum)
    if isinstance(datum, dict) and discover_secondaryFiles and _is_handed_on(self, datum):
        schema = _required_only(schema)
    whole = schema.get("name") == _ALL_INPUTS
    if whole:
        note_version(self.cwlVersion)
    try:
        bound = _bind_input(self, schema, datum, discover_secondaryFiles, *args, **kwargs)
        if isinstance(datum, dict) and "secondaryFiles" in schema:
            _quote_names(datum)
        return bound
    except _FormatError as error:
        if whole:
            raise WorkflowException(str(error)) from error
        is_field = "name" in schema and schema.get("type") != "record"
        if is_field and not isinstance(schema["type"], list):  # of several types the one that fits was bound
            error.names.insert(0, shortname(schema["name"]))
        raise
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        if not whole:
            raise
        raise WorkflowException(
            f"the inputs cannot be bound ({type(error).__name__}: {error}): does an expression of"
            " secondaryFiles give a File without location and basename?"
        ) from error
