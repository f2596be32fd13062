"""URLs that let their bearer read one kept output, or a part of it, until a moment, and nothing else.

A signature is an HMAC-SHA256 over the method, what the server is called, the path that may be read, the
moment, and the name of the key. ``HEAD`` is allowed where ``GET`` is. A URL to send something to is signed
for ``PUT`` and a number of bytes; ``POST`` stands for it. Without a ``scope`` a signature is for the path of
the URL itself: some brokers take only short ones. Keys are in a file of the server's state folder; a new one
comes now and then, and an old one stays as long as a URL that it has signed may live. It must not know what
is behind the URLs.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, Field, ValidationError

from wes_bridge.auth.principal import Principal
from wes_bridge.model.data_urls import DATA, DataPath, read_data_path
from wes_bridge.model.units import format_instant, utcnow
from wes_bridge.small_files import read_small

_VERSION = "wes-bridge-url-1"
_READING, _SENDING = "GET", "PUT"
_METHODS = {_READING: frozenset({"GET", "HEAD"}), _SENDING: frozenset({"PUT", "POST"})}
_FIELDS = ("expires", "key", "signature")
_MAYBE = ("scope", "most")
_MARK, _MOST = "wes_bridge.signed_url", "wes_bridge.signed_upload"
_ASK = "ask the session's owner, or whoever gave you the URL, for a new one (POST /urls/SESSION/OUTPUT)"
_LONGEST_FILE = 1 << 20
_MOST_FIELDS = 20
_DIGITS = 15


class SignatureError(Exception):
    """A signed URL does not let its bearer in; the text says why, and what to do."""


class Key(BaseModel):
    """A key: its name, its secret, and when it was made, in seconds since the epoch."""

    id: str
    secret: str = Field(repr=False, pattern=r"^[0-9a-f]{64}$")
    made: float


class _Keys(BaseModel):
    keys: list[Key]


class Keys(Protocol):
    """What has the keys of a server; see :class:`KeyRing`."""

    longest: float

    def load(self) -> None:
        """See that there are keys, or that they can be made."""

    def current(self) -> Key:
        """The one that signs now."""

    def find(self, name: str) -> Key | None:
        """One by its name."""


class KeyRing:
    """The keys of a server. For all of its threads.

    Args:
        path: of their file; made when it is needed.
        rotate: seconds for which one key signs.
        longest: seconds that a URL lives at most.
        clock: seconds since the epoch.
    """

    def __init__(
        self, path: Path, rotate: float, longest: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._rotate = rotate
        self.longest = longest
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, Key] | None = None
        self._read: tuple[int, int, int] | None = None
        """Which file was read: its number, time and size."""

    def load(self) -> None:
        """Read the file, where there is one. Blocks.

        Raises:
            OSError: it is there and cannot be read; the text says what to do.
        """
        with self._lock:
            self._known()

    def current(self) -> Key:
        """The key that signs now. May block, to write a new one.

        Raises:
            OSError: a new one cannot be written.
        """
        now = self._clock()
        with self._lock:
            known = self._known()
            newest = max(known.values(), key=lambda key: key.made, default=None)
            if newest is not None and now < newest.made + self._rotate:
                return newest
            new = Key(id=secrets.token_hex(6), secret=secrets.token_hex(32), made=now)
            kept = [key for key in known.values() if now < key.made + self._rotate + self.longest]
            self._write([*kept, new])
            self._keys = {key.id: key for key in (*kept, new)}
            return new

    def find(self, name: str) -> Key | None:
        """A key by its name; None where it is not here, or too old."""
        key = (self._keys or {}).get(name)
        if key is None:
            self._look_again()
            key = (self._keys or {}).get(name)
        if key is None or self._clock() >= key.made + self._rotate + self.longest:
            return None
        return key

    def _look_again(self) -> None:
        """Another process of the same server may have made a key: the file is another one then. Anybody may
        name keys that there are not, so that it is not read in vain."""
        with self._lock:
            if self._read == self._state():
                return
            known = self._keys
            try:
                self._keys = None
                self._known()
            except OSError:
                self._keys = known

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _known(self) -> dict[str, Key]:
        if self._keys is None:
            self._read = self._state()
            try:
                content = read_small(self._path, _LONGEST_FILE, follow=False)
                found = _Keys.model_validate_json(content).keys
            except FileNotFoundError:
                found = []
            except ValidationError as error:
                text = "it holds no keys of signed URLs: remove it, which makes the URLs that are out useless"
                raise OSError(f"{self._path}: {text}") from error
            self._keys = {key.id: key for key in found}
        return self._keys

    def _write(self, keys: Iterable[Key]) -> None:
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_Keys(keys=list(keys)).model_dump_json())
        new.replace(self._path)
        self._read = None  # another process may have written since


class SignedUrls:
    """Makes signed URLs, and looks at those that come back.

    Args:
        ring: the keys.
        public: what clients call the server, where it is behind a proxy.
        clock: seconds since the epoch.
    """

    def __init__(self, ring: Keys, public: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self._ring = ring
        self._public = public
        self._clock = clock

    def load(self) -> None:
        """Read the keys. Blocks. Raises OSError as :meth:`KeyRing.load`."""
        self._ring.load()

    @property
    def longest(self) -> float:
        """Seconds that a URL lives at most."""
        return self._ring.longest

    def sign(self, base: str, place: DataPath, lifetime: float) -> tuple[str, int]:
        """The query of a URL, and when it expires. May block.

        Args:
            base: what the client calls the server.
            place: what may be read, all below it included where it is a folder.
            lifetime: seconds.
        """
        return self._signed(base, place, lifetime, _READING, {"scope": str(place)})

    def sign_short(self, base: str, place: DataPath, lifetime: float) -> str:
        """The query of a URL that is good for this very path, as short as may be. May block."""
        return self._signed(base, place, lifetime, _READING, {})[0]

    def sign_upload(self, base: str, place: DataPath, lifetime: float, most: int) -> str:
        """The query of URLs to which something may be sent. May block.

        Args:
            base: as of :meth:`sign`.
            place: where to, all below it included where it is a folder.
            lifetime: seconds.
            most: bytes that one request may have.
        """
        return self._signed(base, place, lifetime, _SENDING, {"scope": str(place), "most": str(most)})[0]

    def _signed(
        self, base: str, place: DataPath, lifetime: float, method: str, more: dict[str, str]
    ) -> tuple[str, int]:
        expires = int(self._clock() + min(lifetime, self.longest))
        key = self._ring.current()
        what = (method, _audience(base), str(place), str(expires))
        signature = _signature(key, what, more.get("most"))
        fields = {"expires": expires, "key": key.id, **more, "signature": signature}
        return urlencode(fields), expires

    def claims(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request comes with a signed URL."""
        return scope["path"].startswith(DATA) and b"signature=" in scope.get("query_string", b"")

    def check(self, scope: MutableMapping[str, Any], host: str) -> Principal:
        """Whom a request with a signed URL comes from: nobody who is known, and who may read this only.

        Raises:
            SignatureError: it does not let anybody in.
        """
        fields = _fields(scope["query_string"])
        most = fields.get("most")
        method = _READING if most is None else _SENDING
        if scope["method"] not in _METHODS[method]:
            good = "GET and HEAD" if most is None else "PUT"
            raise SignatureError(f"this signed URL is good for {good} only, not for {scope['method'][:20]}")
        key = self._ring.find(fields["key"])
        if key is None:
            raise SignatureError(f"the URL was signed with a key that is not in use here; {_ASK}")
        expires = int(fields["expires"])
        audience = _audience(self._public or f"{scope['scheme']}://{host}")
        place = fields.get("scope", raw_path(scope))
        wanted = _signature(key, (method, audience, place, str(expires)), most)
        if not hmac.compare_digest(wanted.encode(), fields["signature"].encode("utf-8", "replace")):
            text = (
                f"the signature is not that of this URL: it was changed, or made for another than {audience}"
            )
            raise SignatureError(f"{text}; {_ASK}")
        if expires <= self._clock():
            raise SignatureError(f"the URL has expired (it is {format_instant(utcnow())} here); {_ASK}")
        signed, asked = read_data_path(place), read_data_path(raw_path(scope))
        if signed is None or asked is None or not signed.covers(asked):
            raise SignatureError(f"the URL is signed for {place} and not for this path; {_ASK}")
        scope[_MARK if most is None else _MOST] = True if most is None else int(most)
        return Principal(
            name=f"url:{signed.session}/{signed.output}", display="the bearer of a URL", roles=frozenset()
        )


def is_signed(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request came with a signed URL that lets its bearer read what is at its path."""
    return scope.get(_MARK) is True


def signed_upload(scope: MutableMapping[str, Any]) -> int | None:
    """How many bytes may be sent with a request that came with a signed URL for that; None: it did not."""
    most = scope.get(_MOST)
    return most if isinstance(most, int) else None


def raw_path(scope: MutableMapping[str, Any]) -> str:
    """The path of a request as it was sent, percent-encoded."""
    raw: bytes | None = scope.get("raw_path")
    return raw.partition(b"?")[0].decode("latin-1") if raw is not None else str(scope["path"])


def _fields(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except (UnicodeDecodeError, ValueError) as error:
        raise SignatureError(f"the query of the URL cannot be read; {_ASK}") from error
    found = dict(pairs)
    names = [name for name, _ in pairs]
    if any(names.count(name) != 1 for name in _FIELDS) or any(names.count(name) > 1 for name in _MAYBE):
        raise SignatureError(f"a signed URL has each of {', '.join(_FIELDS)} once, this one has not; {_ASK}")
    if not _is_number(found["expires"]):
        raise SignatureError(f"the URL does not say when it expires; {_ASK}")
    if not _is_number(found.get("most", "0")):
        raise SignatureError(f"the URL does not say how much may be sent; {_ASK}")
    return found


def _audience(base: str) -> str:
    return base.rstrip("/").lower()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def _signature(key: Key, what: tuple[str, str, str, str], most: str | None) -> str:
    """Of a method, an audience, a path and a moment; and of how much may be sent."""
    parts = [_VERSION, *what, key.id]
    text = "\n".join(parts if most is None else [*parts, most])
    return hmac.new(bytes.fromhex(key.secret), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
