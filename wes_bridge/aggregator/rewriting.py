"""Brokers' answers, so that who reads them talks to the aggregator only.

It works on plain JSON: what no model of ours knows is passed on as it is, URLs in it included in the
rewriting. What belongs to the client (its data's locations, its command) is never touched, even where it
looks like an address of a broker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from wes_bridge.aggregator.messages import Json

_CLIENTS = frozenset(
    {"location", "destination", "command", "entrypoint", "environment", "image", "path", "volumes"}
)
"""Names of fields whose content is the client's own."""
_TEXTS = frozenset({"messages", "description", "message", "title"})
"""Names of fields that hold text for people, in which addresses may stand anywhere."""
_SESSION = re.compile(r"(.*)/sessions/([^/?#]+)")
_STREAM = re.compile(r"/streams/([^/?#]+)/(stdout|stderr)")
_DATA = re.compile(r"/data/([^/?#]+)/([^?#]*)")
_DEEPEST = 100
"""Levels of nesting an answer may have."""


def link_uuid(session: str, url: str) -> str:
    """What a broker's URL is called here: always the same for one session."""
    return str(uuid5(UUID(session), url))


def base_of(session_url: str) -> str | None:
    """What a broker calls itself, judging from what it calls a session; None when that is no usual URL."""
    match = _SESSION.fullmatch(session_url)
    return match[1] if match and match[1].startswith(("http://", "https://")) else None


def offerset_base(url: str) -> str | None:
    """What a broker calls itself, judging from what it calls an offer set."""
    base, found, _ = url.rpartition("/offersets/")
    return base if found and base.startswith(("http://", "https://")) else None


def scrub(value: Any, bases: Sequence[str], name: str) -> Any:
    """JSON with a name where a broker's address stands in its texts."""
    if isinstance(value, dict):
        return {key: scrub(item, bases, name) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item, bases, name) for item in value]
    if isinstance(value, str):
        for base in bases:
            value = value.replace(base, name)
    return value


def is_below(url: str, base: str) -> bool:
    """Whether a URL is a base or below it."""
    return url == base or (url.startswith(base) and url[len(base)] in "/?#")


def session_id(url: str) -> str | None:
    """The last part of a session's URL."""
    match = _SESSION.fullmatch(url)
    return match[2] if match else None


class Rewriter:
    """Rewrites what one broker says of one session.

    Args:
        real: URL of the broker as configured, and of the session there.
        told: what the broker calls the session, when it said so.
        base: what our client calls us.
        uuid: what we call the session.

    Attributes:
        links: URLs that got a name of ours in the answer, by that name. To be stored before it is told.
    """

    def __init__(self, real: tuple[str, str], told: str | None, base: str, uuid: str) -> None:
        self._real, session_url = real
        told_base = base_of(told) if told else None
        self._bases = sorted({self._real, *([told_base] if told_base else [])}, key=len, reverse=True)
        self._id = session_id(session_url)
        self._told = {url for url in (told, session_url) if url}
        self._base = base
        self._uuid = uuid
        starts = "|".join(re.escape(known) for known in self._bases)
        self._in_text = re.compile(rf"(?:{starts})(?![\w:-]|\.\w)(?:[/?#][^\s\"'<>]*[^\s\"'<>.,;:!)\]}}])?")
        self.links: dict[str, str] = {}

    def session(self, session: Json, broker: str) -> Json:
        """The session as we tell it.

        Args:
            session: as the broker tells it; it is not changed.
            broker: who made it; the broker of a broker stands after a slash.
        """
        told: Json = self._walk(session, "", 0)
        meta: Json = dict(told.get("meta") or {})
        inner = meta.get("broker")
        meta["uuid"] = self._uuid
        meta["url"] = f"{self._base}/sessions/{self._uuid}"
        meta["broker"] = f"{broker}/{inner}" if isinstance(inner, str) and inner else broker
        told["meta"] = meta
        return told

    def anything(self, value: Any) -> Any:
        """Any other JSON a broker sent."""
        return self._walk(value, "", 0)

    def text(self, text: str) -> str:
        """Text for people: addresses of the broker in it become ours, the session's name too."""
        told = self._in_text.sub(lambda match: self._url(match[0]), text)
        return told.replace(self._id, self._uuid) if self._id and len(self._id) > 8 else told

    def _walk(self, value: Any, name: str, depth: int) -> Any:
        if depth > _DEEPEST:
            return None
        if name in _TEXTS:
            return self._in_words(value, depth)
        if isinstance(value, dict):
            told = {
                key: item if key in _CLIENTS else self._walk(item, key, depth + 1)
                for key, item in value.items()
            }
            location = value.get("location")
            if "kept" in value and isinstance(location, str) and self._is_ours(location):
                told["location"] = self._url(location)  # of an output, which the broker has chosen
            return told
        if isinstance(value, list):
            return [self._walk(item, name, depth + 1) for item in value]
        if isinstance(value, str) and self._is_ours(value):
            return self._url(value)
        return value

    def _in_words(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict) and depth < _DEEPEST:
            return {key: self._in_words(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list) and depth < _DEEPEST:
            return [self._in_words(item, depth + 1) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _is_ours(self, text: str) -> bool:
        return text in self._told or any(is_below(text, base) for base in self._bases)

    def _url(self, url: str) -> str:
        """What we call one of the broker's URLs."""
        if url in self._told:
            return f"{self._base}/sessions/{self._uuid}"
        base = next(base for base in self._bases if is_below(url, base))
        rest = url[len(base) :]
        session, stream = _SESSION.fullmatch(rest), _STREAM.fullmatch(rest)
        if self._id and session and session[1] == "" and session[2] == self._id:
            return f"{self._base}/sessions/{self._uuid}"
        if self._id and stream and stream[1] == self._id:
            return f"{self._base}/streams/{self._uuid}/{stream[2]}"
        data = _DATA.fullmatch(rest)
        if self._id and data and data[1] == self._id:
            return f"{self._base}/data/{self._uuid}/{data[2]}"
        if rest in ("", "/"):
            return self._base
        real = self._real + rest
        uuid = link_uuid(self._uuid, real)
        self.links[uuid] = real
        return f"{self._base}/links/{uuid}"


def local_url(told: str | None, uuid: str | None, base: str) -> str | None:
    """Where to reach a session: below the broker's configured URL, wherever the broker says it is.

    Args:
        told: ``meta.url`` of the session.
        uuid: ``meta.uuid`` of the session.
        base: the broker's configured URL.

    Returns:
        None when the broker gave neither a URL below its own nor a usable name.
    """
    if told and told != base and is_below(told, base):
        return told
    name = session_id(told) if told else None
    if name is None and uuid is not None:
        name = uuid
    return f"{base}/sessions/{name}" if name else None
