"""What an ExecutionBroker's server refuses, as a type."""

from __future__ import annotations


class BadRequestError(Exception):
    """The request cannot be answered as asked: answered with ``status`` and the text."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
