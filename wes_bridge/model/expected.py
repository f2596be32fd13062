"""What is known of a file before it comes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """What a request says of a file before it is fetched.

    Attributes:
        size: bytes; None: not said.
        checksum: algorithm (``sha256``, ...) and value in hex digits; None: not said.
    """

    size: int | None = None
    checksum: tuple[str, str] | None = None


UNSAID = Expected()
"""Nothing is said."""
