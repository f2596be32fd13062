"""POST /runs/{run_id}/authorise: a paused run goes on with new tokens; and what a submission hands over."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.delegation import family_of
from wes_bridge.auth.exchange import handed_over
from wes_bridge.auth.identity import caller, principal_of
from wes_bridge.auth.safe import Held, Safe, SafeError
from wes_bridge.store.delegations import latest_of, put_delegation
from wes_bridge.wes.errors import ApiError, BadRequestError, ConflictError, ForbiddenError
from wes_bridge.wes.service import Service, json_response

REFRESH_TOKEN = "X-WES-Bridge-Refresh-Token"  # noqa: S105  # a name
"""Header with which whoever submits or authorises a run hands over what renews their token."""
_LONGEST = 16 * 1024
Store = Callable[[Connection], None]


class Handover:
    """Takes the tokens that a request comes with, for a run to act with.

    Args:
        service: the server's shared parts.
    """

    def __init__(self, service: Service) -> None:
        config = service.config
        self._service = service
        self._safe = Safe(config.delegation.key, config.state_dir) if config.delegates else None

    async def taken(self, request: Request, run_id: str) -> Store | None:
        """What stores the caller's tokens for a run; None where there are none, or none are wanted.

        Raises:
            BadRequestError: the refresh token cannot be one.
        """
        token = principal_of(request).token
        if self._safe is None or token is None:
            return None
        refresh = request.headers.get(REFRESH_TOKEN, "")
        if len(refresh) > _LONGEST or not refresh.isprintable():
            raise BadRequestError(f"{REFRESH_TOKEN} is no token of up to {_LONGEST} printable characters")
        held = handed_over(token.get_secret_value(), refresh)
        family = family_of(held)
        try:
            sealed = await self._service.threads.files(self._safe.seal, run_id, held)
        except SafeError as error:
            raise ApiError(f"the service cannot keep tokens: {error}") from error
        safe = self._safe

        def store(connection: Connection) -> None:
            renewed = _renewed(connection, safe, run_id, family, held)
            put_delegation(connection, run_id, family, renewed or sealed)

        return store


def _renewed(connection: Connection, safe: Safe, run_id: str, family: str, held: Held) -> str | None:
    """The tokens of the same login that another run has renewed, sealed for this one; None: nothing is newer.

    The refresh token that was handed over is good for nothing once another run has used it, and an issuer
    that sees it again takes all tokens of the login back (RFC 9700, section 4.14.2).
    """
    other = latest_of(connection, family, run_id)
    if other is None:
        return None
    try:
        newer = safe.open(other.run_id, other.sealed)
        return safe.seal(run_id, newer) if newer.refresh != held.refresh else None
    except SafeError:
        return None


class AuthoriseHandlers:
    """Letting runs go on."""

    def __init__(self, service: Service, handover: Handover) -> None:
        self._service = service
        self._handover = handover

    async def post(self, request: Request) -> Response:
        """AuthoriseRun."""
        run_id, state, owner = await self._service.state_of(request, changing=True)
        if owner != caller(request):
            raise ForbiddenError("only its owner can let a run act for them; an administrator cannot")
        if state.is_final:
            raise ConflictError(f"run {run_id} is {state.value}: it acts for nobody any more")
        store = await self._handover.taken(request, run_id)
        if store is None:
            raise BadRequestError(
                "there is nothing to authorise the run with: send the request with a bearer token of yours; a"
                f" refresh token goes into the header {REFRESH_TOKEN}. Services whose brokers want no tokens"
                " of users take none"
            )
        await self._service.writer(store)
        self._service.wake()
        return json_response({"run_id": run_id})
