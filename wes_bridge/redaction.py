"""Secrets out of texts that people see: passwords and tokens in URLs, and what headers of authority say.

One function, for the log's root and for all errors that pass on what somebody else said. It must be quick
with texts that hold none, which are nearly all. It imports nothing of ours.
"""

from __future__ import annotations

import logging
import re
from typing import Any

HIDDEN = "***"
"""What is shown in place of a secret."""
_MAYBE = re.compile(r"@|[?&;#=]|bearer|uthoriz|_token|secret|passw", re.IGNORECASE)
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#'\"<>]{0,4096}@(?=[^\s/?#'\"<>])")
_IN_URLS = re.compile(
    r"([?&;#](?:[\w.-]{0,40}(?:token|secret|passwo?r?d|signature|credential|api[_-]?key|accesskeyid)"
    r"|sig|auth|authorization|key|code|jwt|assertion|client_assertion|session_?id)=)[^\s&;#'\"<>]{1,16384}",
    re.IGNORECASE,
)
_NAMES = r"(?:(?:access|refresh|id|subject|actor)_token|client_secret|password|device_code)"
_BY_NAME = re.compile(rf"(\b{_NAMES}=)[^\s&;#,'\"<>]{{4,16384}}", re.IGNORECASE)
_IN_JSON = re.compile(rf"([\"']{_NAMES}[\"']\s*:\s*[\"'])[^\"'\s]{{1,16384}}", re.IGNORECASE)
_IN_HEADERS = re.compile(
    r"(authorization[\"']?\s*[:=]\s*[\"']?(?:[A-Za-z]+\s+)?+)[A-Za-z0-9._~+/=%-]{4,16384}"
    r"|(\bbearer\s+)(?=[A-Za-z._~+/=-]{0,200}\d)[A-Za-z0-9._~+/=-]{12,16384}",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """A text without the passwords, tokens and signatures that can be told from other words."""
    if not _MAYBE.search(text):
        return text
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_IN_URLS, _BY_NAME, _IN_JSON):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _IN_HEADERS.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)


def redacted_json(value: Any) -> Any:
    """JSON with all its texts redacted."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [redacted_json(item) for item in value]
    if isinstance(value, dict):
        return {name: redacted_json(item) for name, item in value.items()}
    return value


class _Record(logging.LogRecord):
    """What is logged, by whomever."""

    def getMessage(self) -> str:
        return redacted(super().getMessage())


class _Redacting(logging.Formatter):
    """Another formatter's text, redacted: a traceback is no part of the message."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return redacted(self._inner.format(record))


def redact_logs() -> None:
    """Redact all that this process logs from now on. Call it once the log is set up."""
    logging.setLogRecordFactory(_Record)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler.formatter, _Redacting):
            handler.setFormatter(_Redacting(handler.formatter))
