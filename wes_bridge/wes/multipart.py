"""A multipart/form-data body, taken apart as it arrives.

Attachments go straight to disk; only the other fields are kept in memory, and those are limited. What is
fed here may block (it writes files): call it in a thread.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from wes_bridge.data.attachments import Incoming
from wes_bridge.model.headers import EXECUTABLE
from wes_bridge.wes.errors import BadRequestError, TooLargeError

ATTACHMENT = "workflow_attachment"
MAX_FIELDS = 64 * 1024**2
"""Bytes that all fields other than attachments may have together."""
_MAX_FIELD_COUNT = 100
_MAX_EMPTY = 100
"""Parts by which a browser says that nothing was chosen."""
_MAX_HEADER = 16 * 1024
_EXECUTABLE = EXECUTABLE.lower().encode()
_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;]*)')
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each malformed header
_ESCAPED = re.compile(r'\\(["\\])')


class FormParser:
    """Takes a body in chunks.

    Args:
        boundary: from the Content-Type.
        incoming: gets the attachments.

    Attributes:
        fields: the other fields' values by name, once :meth:`finish` has returned.

    Raises:
        BadRequestError: an impossible boundary.
    """

    def __init__(self, boundary: str, incoming: Incoming) -> None:
        self.fields: dict[str, str] = {}
        self._incoming = incoming
        self._in_file = False
        self._no_file = False
        self._empty = 0
        self._ended = False
        self._name = ""
        self._value = bytearray()
        self._size = 0
        self._header = bytearray()
        self._header_value = bytearray()
        self._disposition = ""
        self._is_executable = False
        self._parser = self._make_parser(boundary)

    def _make_parser(self, boundary: str) -> MultipartParser:
        try:
            return MultipartParser(
                boundary.encode("latin-1"),
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_size=_MAX_HEADER,
            )
        except (FormParserError, UnicodeEncodeError) as error:
            raise BadRequestError(f"multipart/form-data: bad boundary: {error}") from error

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadRequestError: not a multipart body, a field twice, a part without a name.
            TooLargeError: too much outside attachments.
            BadAttachmentError, TooManyAttachmentsError, OSError: see :class:`Incoming`.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequestError(f"multipart/form-data: the body is malformed: {error}") from error

    def finish(self) -> None:
        """The body is complete.

        Raises:
            BadRequestError: it is not.
        """
        if not self._ended:
            raise BadRequestError("multipart/form-data: the body ends before its last boundary")

    def _on_part(self) -> None:
        self._disposition = ""
        self._is_executable = False
        self._in_file = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            try:
                self._disposition = self._header_value.decode()
            except UnicodeDecodeError:
                raise BadRequestError("multipart/form-data: a part's header is not UTF-8") from None
        elif self._header.lower() == _EXECUTABLE:
            self._is_executable = self._header_value.strip().lower() == b"true"
        self._header.clear()
        self._header_value.clear()

    def _on_headers(self) -> None:
        parameters = disposition(self._disposition)
        self._name = parameters.get("name", "")
        if not self._name:
            raise BadRequestError("multipart/form-data: a part has no name in its Content-Disposition")
        self._in_file = self._name.removesuffix("[]") == ATTACHMENT
        if self._in_file:
            self._begin_file(parameters.get("filename"))
        elif self._name in self.fields:
            raise BadRequestError(f"{self._name} was sent twice")
        elif len(self.fields) >= _MAX_FIELD_COUNT:
            raise TooLargeError(f"more than {_MAX_FIELD_COUNT} form fields")

    def _begin_file(self, name: str | None) -> None:
        self._no_file = name == ""  # how a browser says that nothing was chosen
        if self._no_file:
            self._empty += 1
            if self._empty > _MAX_EMPTY:
                raise TooLargeError(f"{ATTACHMENT}: more than {_MAX_EMPTY} parts have an empty file name")
            return
        if name is None:
            raise BadRequestError(f"{ATTACHMENT}: a part has no file name in its Content-Disposition")
        self._incoming.begin(name, is_executable=self._is_executable)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file and not self._no_file:
            self._incoming.write(memoryview(data)[start:end])
            return
        if self._in_file:
            raise BadRequestError(f"{ATTACHMENT}: a part with content has an empty file name")
        self._size += end - start
        if self._size > MAX_FIELDS:
            raise TooLargeError(f"form fields have more than {MAX_FIELDS} bytes; send large data as files")
        self._value += data[start:end]

    def _on_part_end(self) -> None:
        if self._in_file:
            self._incoming.end()
            return
        try:
            self.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise BadRequestError(f"{self._name} is not UTF-8 text") from None
        self._value.clear()

    def _on_end(self) -> None:
        self._ended = True


def disposition(header: str) -> dict[str, str]:
    """The parameters of a Content-Disposition, names in lower case.

    Raises:
        BadRequestError: a ``filename*`` in no known encoding.

    Browsers send ``%22`` for a quotation mark, curl a backslash before it; both are understood.
    """
    found = {}
    for name, value in _PARAMETER.findall(header):
        found[name.lower()] = _unquoted(value) if value.startswith('"') else value
    if "filename*" in found:  # RFC 5987, as older Python clients send it
        found["filename"] = _extended(found["filename*"])
    return found


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]).replace("%22", '"')


def _extended(value: str) -> str:
    charset, _, rest = value.partition("'")
    try:
        return unquote_to_bytes(rest.partition("'")[2]).decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError):
        raise BadRequestError(f"{ATTACHMENT}: file name {value[:80]!r} cannot be read") from None
