"""WebDAV's listings (RFC 4918): a folder's members, read from an answer as it comes, in bounded memory.

What a server writes is not trusted: document types, which entities come with, are refused, names that would
lead out of the folder too. It must not know how the server is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from xml.parsers import expat  # document types, the way to all known attacks, are refused; nosec B407

BODY = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>'
    b"<getetag/><getlastmodified/></prop></propfind>"
)
"""Of the request."""
SCHEMES = ("dav", "davs", "webdav", "webdavs")
_WEB = {"davs": "https", "webdavs": "https", "dav": "http", "webdav": "http"}
_LONGEST = 16_384
"""Characters of one value."""


class ListingError(ValueError):
    """The answer is no listing; the text says why."""


@dataclass
class Member:
    """One thing in a folder.

    Attributes:
        path: of its URL, decoded; a folder's without a slash at its end.
        is_folder: whether it is one.
        size: bytes; -1: not said.
        version: what the server says of its content; empty: nothing.
        modified: when it was written, as HTTP has it; empty: not said.
    """

    path: str
    is_folder: bool = False
    size: int = -1
    version: str = ""
    modified: str = ""


def web_url(location: str) -> str:
    """The http(s) URL at which a WebDAV server answers."""
    scheme, colon, rest = location.partition(":")
    return f"{_WEB.get(scheme.lower(), scheme)}{colon}{rest}"


def itself(chunks: Iterable[bytes]) -> Member:
    """What an answer to PROPFIND with depth 0 is about; its ``path`` means nothing.

    Raises:
        ListingError: it is no listing.
    """
    found = next(_parsed(chunks), None)
    if found is None:
        raise ListingError("the server's listing is empty")
    return found


def members(chunks: Iterable[bytes], folder: str) -> Iterator[Member]:
    """The members of a folder, itself left out.

    Args:
        chunks: of the answer to PROPFIND with depth 1.
        folder: the path of its URL, decoded.

    Yields:
        Members, whose ``path`` is a plain name.

    Raises:
        ListingError: it is no listing, or names what is not in the folder.
    """
    base = folder.rstrip("/")
    for member in _parsed(chunks):
        path = member.path.rstrip("/")
        if path == base:
            continue
        above, _, name = path.rpartition("/")
        if above != base or name in ("", ".", "..") or "\0" in name:
            raise ListingError(f"the server lists {path[:200]!r}, which is not in the folder {base[:200]!r}")
        yield Member(name, member.is_folder, member.size, member.version, member.modified)


def _parsed(chunks: Iterable[bytes]) -> Iterator[Member]:
    reader = _Reader()
    try:
        for chunk in chunks:
            reader.parser.Parse(chunk, False)
            yield from reader.taken()
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ListingError(f"the server's listing of the folder is no XML: {error}") from error
    yield from reader.taken()


class _Reader:
    """Elements as they come."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add
        self._found: list[Member] = []
        self._member: Member | None = None
        self._text: list[str] | None = None
        self._long = 0

    def taken(self) -> list[Member]:
        found, self._found = self._found, []
        return found

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ListingError("the server's listing has a document type, which listings have not")

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        if name == "DAV: response":
            self._member = Member("")
        elif name in ("DAV: href", "DAV: getcontentlength", "DAV: getetag", "DAV: getlastmodified"):
            self._text, self._long = [], 0
        elif name == "DAV: collection" and self._member is not None:
            self._member.is_folder = True

    def _add(self, text: str) -> None:
        if self._text is None:
            return
        self._long += len(text)
        if self._long > _LONGEST:
            raise ListingError("a value in the server's listing is too long")
        self._text.append(text)

    def _end(self, name: str) -> None:
        text, member = "".join(self._text or ()).strip(), self._member
        self._text = None
        if member is None:
            return
        if name == "DAV: response":
            self._found.append(member)
            self._member = None
        elif name == "DAV: href" and not member.path:
            member.path = unquote(urlsplit(text).path, errors="surrogateescape")
        elif name == "DAV: getcontentlength" and text.isascii() and text.isdigit() and len(text) < 19:
            member.size = int(text)
        elif name == "DAV: getetag":
            member.version = text or member.version
        elif name == "DAV: getlastmodified":
            member.version, member.modified = member.version or text, text
