"""Secrets out of texts that people see: passwords and tokens in URLs, and what headers of authority say.

One function, for the log's root and for all errors that pass on what somebody else said. It must be quick
with texts that hold none, which are nearly all. It imports nothing of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
"""What is shown in place of a secret."""
_MAYBE = re.compile(r"@|[?&;=#]|bearer|basic|authoriz", re.IGNORECASE)
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@'\"<>]{0,2000}@(?=[^\s/?#@])")
_NAMES = (
    r"[\w.-]{0,40}(?:token|secret|passw(?:or)?d|passphrase|signature|api[_-]?key|access[_-]?key[_-]?id|credential)"
    r"|sig|auth|authorization|key|code|jwt|sid|session[_-]?id|client_assertion|assertion"
)
_PARAMETER = re.compile(rf"((?<![\w.-])(?:{_NAMES})=)[^\s&;#'\"<>]{{1,8192}}", re.IGNORECASE)
_SCHEMES = re.compile(r"\b((?:bearer|basic|digest|negotiate)\s+)[A-Za-z0-9._~+/=-]{8,16384}", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without its secrets.

    Args:
        text: may hold URLs, headers, bodies of errors.
        secrets: that are known, and are taken out wherever they stand.
    """
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, HIDDEN)
    if not _MAYBE.search(text):
        return text
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _PARAMETER.sub(rf"\1{HIDDEN}", text)
    return _SCHEMES.sub(rf"\1{HIDDEN}", text)
