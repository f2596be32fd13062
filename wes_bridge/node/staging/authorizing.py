"""The header with which a user's token is shown to a store, and what becomes of a token that is not taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from wes_bridge.fetching.errors import StatusError
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.node.staging.schemes import Tokens

_UNAUTHORIZED = 401


class NoTokensError(OSError):
    """A store wants a token of the user, and nobody has any."""

    def __init__(self) -> None:
        super().__init__()
        self.strerror = "it wants a token of the user, and there is none"


@contextlib.contextmanager
def authorized(wanted: DelegatedTo | None, tokens: Tokens | None) -> Iterator[dict[str, str] | None]:
    """Credentials for a transfer; None where the store wants none. Blocks.

    Args:
        wanted: the token that the store wants; None: none.
        tokens: of the user.

    Raises:
        OSError: there is none; the text says why.
    """
    if wanted is None:
        yield None
        return
    if tokens is None:
        raise NoTokensError
    try:
        yield {"Authorization": f"Bearer {tokens.token(wanted)}"}
    except OSError as error:
        if _is_unauthorized(error):
            tokens.forget(wanted)
        raise


def _is_unauthorized(error: BaseException | None) -> bool:
    """Whether a store did not know the token: some layers in between say it in words of their own."""
    while error is not None:
        if isinstance(error, StatusError) and error.status == _UNAUTHORIZED:
            return True
        error = error.__cause__
    return False
