"""The one reading of an http(s) URL; what two libraries could read in two ways is refused.

Who connects is given the parts and never the text, so that nobody reads it again: ``http://a\\@b/`` leads to
``a`` for one library and to ``b`` for another. Knows nothing of which hosts are allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin

from wes_bridge.fetching.addresses import Address, literal
from wes_bridge.fetching.errors import UrlError

MAX_LENGTH = 16 * 1024
"""Characters of a URL."""
DEFAULT_PORTS = {"http": 80, "https": 443}
_SHOWN = 120
_SPLIT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_USERINFO = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:%-]*")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r":[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE = "!$%&'()*+,/:;=?@[]~"
"""What stands in the path and query of a URL for itself, beside letters and digits."""


@dataclass(frozen=True)
class WebUrl:
    """An http(s) URL in parts.

    Attributes:
        scheme: ``http`` or ``https``.
        host: lower case, in ASCII; an IPv6 address without brackets.
        port: always there.
        target: path and query, as they are sent.
        user, password: decoded; None where there are none.
    """

    scheme: str
    host: str
    port: int
    target: str
    user: str | None = None
    password: str | None = None

    @property
    def address(self) -> Address | None:
        """The address that the host is written as; None for a name."""
        return literal(self.host)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: who credentials are for."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port, the port only where it is not the usual one: a ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.has_usual_port else f"{host}:{self.port}"

    @property
    def has_usual_port(self) -> bool:
        """Whether the port is the scheme's own."""
        return self.port == DEFAULT_PORTS[self.scheme]

    def __str__(self) -> str:
        """The URL without user and password."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def join(self, location: str) -> WebUrl:
        """Where a redirect from here to ``location`` leads; credentials stay with their origin.

        Raises:
            UrlError: it is no http(s) URL.
        """
        if "\\" in location or _has_controls(location):
            raise UrlError("it redirects to what is no URL")
        found = parse_url(urljoin(str(self), location))
        if found.user is None and found.origin == self.origin:
            return WebUrl(found.scheme, found.host, found.port, found.target, self.user, self.password)
        return found


def is_below(url: WebUrl, prefix: WebUrl) -> bool:
    """Whether a URL begins with another, hosts compared as a whole; one that goes up again does not."""
    if url.origin != prefix.origin or not url.target.startswith(prefix.target):
        return False
    path = unquote(url.target.partition("?")[0])
    return prefix.target == "/" or ".." not in path.split("/")


def parse_url(text: str) -> WebUrl:
    """Read an http(s) URL.

    Raises:
        UrlError: it is none, or can be read in more than one way; the text says what is wrong.
    """
    if len(text) > MAX_LENGTH:
        raise UrlError(f"the URL has more than {MAX_LENGTH} characters")
    if _has_controls(text) or text != text.strip():
        raise UrlError("the URL has control characters or blanks around it")
    if "\\" in text:
        raise UrlError("the URL has a backslash, which programs read in different ways; write %5C")
    found = _SPLIT.fullmatch(text)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in DEFAULT_PORTS:
        raise UrlError(f"{_short(text)} is no URL that begins with http:// or https:// and a host")
    userinfo, at, place = found[2].rpartition("@")
    if not _USERINFO.fullmatch(userinfo):
        raise UrlError("the user or password in the URL has characters that must be percent-encoded")
    host, port = _host_and_port(place, DEFAULT_PORTS[scheme])
    user, colon, password = userinfo.partition(":")
    return WebUrl(
        scheme,
        host,
        port,
        _target(found[3]),
        unquote(user) if at else None,
        unquote(password) if colon else None,
    )


def _host_and_port(place: str, default: int) -> tuple[str, int]:
    bracketed = _BRACKETED.match(place)
    if bracketed:
        host, rest = bracketed[1], place[bracketed.end() :]
        address = literal(host)
        if address is None or address.version != 6:
            raise UrlError(f"[{_short(host)}] is no IPv6 address")
        host = str(address)
    else:
        host, colon, port = place.partition(":")
        host, rest = _name(host), colon + port
    if not rest or rest == ":":
        return host, default
    if not _PORT.fullmatch(rest) or not 0 < int(rest[1:]) < 65536:
        raise UrlError(f"{_short(rest)} after the URL's host is no port")
    return host, int(rest[1:])


def _name(host: str) -> str:
    """A host name or IPv4 address as it is looked up."""
    if not host.isascii():
        host = _to_ascii(host)
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if not name:
        raise UrlError("the URL names no host")
    if _NUMBER.fullmatch(labels[-1]):  # then the whole is an address, in one of many ways to write them
        if literal(name) is None:
            raise UrlError(f"{_short(name)} is an address in an unusual form; write it as four numbers")
        return name
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlError(f"{_short(name)} is no host name")
    return name


def _to_ascii(host: str) -> str:
    import idna  # noqa: PLC0415 - large, and needed for few

    try:
        name = idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise UrlError(f"{_short(host)} is no host name") from error
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise UrlError(f"{_short(host)} is an address in an unusual form; write it as four numbers")
    return name


def _target(text: str) -> str:
    try:
        target = quote(text, safe=_SAFE)
    except UnicodeEncodeError as error:
        raise UrlError("the URL has characters that are no text") from error
    return target if target.startswith("/") else f"/{target}"


def _has_controls(text: str) -> bool:
    return any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in text)


def _short(text: str) -> str:
    """A part of a URL that can be shown: without what may be a password."""
    return repr(text.rpartition("@")[2][:_SHOWN])
