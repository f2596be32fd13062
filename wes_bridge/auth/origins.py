"""What a browser tells about where a request comes from: names of this server, and pages of other sites.

A page on the web can make a browser send requests here, and a name of its own can be made to point here.
Headers that a page cannot choose tell of both. Programs that are no browsers send none of these but Host. It
must not know who calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

_OWN = frozenset({"same-origin", "none"})
"""``Sec-Fetch-Site`` of our own pages, and of what a person asked for by themselves."""
_LOOKS = frozenset({"GET", "HEAD"})


class Names:
    """What clients may call this server.

    Args:
        own: names and addresses, without a port; ``*.example.org`` stands for a domain.
        origins: of pages elsewhere that may use it.
        public: URL of the server behind a proxy, which need not pass ``Host`` on.
    """

    def __init__(self, own: Iterable[str], origins: Iterable[str] = (), public: str | None = None) -> None:
        names = {name.lower().strip("[]").rstrip(".") for name in own if name}
        self._exact = {name for name in names if not name.startswith("*.")} | {"localhost"}
        self._domains = tuple(name[1:] for name in names if name.startswith("*."))
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._public = "/".join(public.lower().split("/", 3)[:3]) if public else None
        self._known: set[tuple[str, str]] = set()

    def is_ours(self, host: str, bound: str) -> bool:
        """Whether a ``Host`` names this server.

        Args:
            host: the header.
            bound: the address at which the request came in.
        """
        if (host, bound) in self._known:
            return True
        name = _name(host)
        if name is None or not self._is_known(name, bound):
            return False
        if len(self._known) < 1000:
            self._known.add((host, bound))
        return True

    def _is_known(self, name: str, bound: str) -> bool:
        if name in self._exact or name.endswith((".localhost", *self._domains)):
            return True
        try:
            address = ip_address(name)
            return address.is_loopback or address == ip_address(bound.partition("%")[0])
        except ValueError:
            return False

    def is_welcome(self, origin: str) -> bool:
        """Whether pages of this origin may use the server, as configured."""
        return origin.lower() in self._origins

    def is_foreign(self, method: str, host: str, told: dict[bytes, str]) -> bool:
        """Whether a request was made by a page that is not ours.

        Args:
            method: of the request.
            host: the header, which has been found to be ours.
            told: the headers ``origin`` and ``sec-fetch-*``.
        """
        origin, site = told.get(b"origin"), told.get(b"sec-fetch-site")
        if origin is not None and self.is_welcome(origin):
            return False
        if site is not None:
            return site not in _OWN and not _is_visit(method, told)
        return origin is not None and not self._is_own_page(origin, host)

    def _is_own_page(self, origin: str, host: str) -> bool:
        if origin.lower() == self._public:
            return True
        try:
            parts = urlsplit(origin)
            port = parts.port
        except ValueError:
            return False
        name = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or not name:
            return False
        usual = {"http": 80, "https": 443}[parts.scheme]
        shown = f"[{name}]" if ":" in name else name
        spelled = {f"{shown}:{port or usual}"} | ({shown} if (port or usual) == usual else set())
        return host.lower() in spelled


def _is_visit(method: str, told: dict[bytes, str]) -> bool:
    """Whether a person follows a link from another site: the page that links does not see the answer."""
    return (
        method in _LOOKS
        and told.get(b"sec-fetch-mode") == "navigate"
        and told.get(b"sec-fetch-dest") == "document"
    )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str | None:
    """The name in a ``Host``, lower case; None where it is malformed."""
    if host.startswith("["):
        inside, bracket, port = host[1:].partition("]")
        name, rest = inside, port.removeprefix(":")
        if not bracket or (port and not port.startswith(":")) or not _is_address(inside):
            return None
    else:
        name, _, rest = host.partition(":")
    if not name or (rest and not (rest.isascii() and rest.isdigit())):
        return None
    return name.lower().rstrip(".") if all(char.isalnum() or char in ".-_:" for char in name) else None
