"""Reading, listing, cancelling and deleting runs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import caller
from wes_bridge.model.states import State
from wes_bridge.store import listing, runs
from wes_bridge.store.retention import InUseError, delete_ended
from wes_bridge.store.sharing import Viewer
from wes_bridge.wes import paging
from wes_bridge.wes.errors import BadRequestError, ConflictError
from wes_bridge.wes.render import run_log, run_summary
from wes_bridge.wes.service import Service, json_response, viewer_of

EVERYBODY = "*"
"""Query parameter ``owner``: all runs that the caller may see."""

_MOST_FILTERS = 16
"""Of a kind; the database looks at each run once more for each."""


class RunHandlers:
    """Operations on runs that exist."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def status(self, request: Request) -> Response:
        """GetRunStatus."""
        run_id, state, _ = await self._service.state_of(request)
        return Response(f'{{"run_id":"{run_id}","state":"{state.value}"}}', media_type="application/json")

    async def get(self, request: Request) -> Response:
        """GetRunLog."""
        row = await self._service.run_of(request)
        return json_response(run_log(row, self._service.links(request)))

    async def list(self, request: Request) -> Response:
        """ListRuns."""
        size = paging.page_size(request.query_params.get("page_size"))
        which = run_filter(request)
        token = request.query_params.get("page_token")
        page = _Page(which, size, paging.read_token(repr(which), token) if token else None)
        return json_response(await self._service.threads.sql(page.read, self._service))

    async def cancel(self, request: Request) -> Response:
        """CancelRun."""
        run_id, state, _ = await self._service.state_of(request, changing=True)
        if not state.is_final:
            await self._service.writer(lambda connection: runs.request_cancel(connection, run_id))
            self._service.wake()
        return json_response({"run_id": run_id})

    async def delete(self, request: Request) -> Response:
        """DeleteRun."""
        run_id, _, owner = await self._service.state_of(request, changing=True)
        try:
            await self._service.writer(lambda connection: delete_ended(connection, run_id))
        except InUseError as error:
            raise ConflictError(_in_use(error, is_own=owner == caller(request))) from error
        await self._service.threads.files(self._service.workspace.run(run_id).remove)
        if self._service.stored is not None:
            await self._service.stored.discard(run_id)
        return json_response({"run_id": run_id})


def _in_use(error: InUseError, *, is_own: bool) -> str:
    if error.state is None:
        reader = f"run {error.user}" if is_own and error.is_same_owner else "a run of somebody else"
        return f"run {error.run_id} has files that {reader} reads: delete it once that has ended"
    return (
        f"run {error.run_id} is {error.state.value}: cancel it (POST .../runs/{error.run_id}/cancel) and"
        " delete it once it has ended"
    )


def run_filter(request: Request) -> listing.RunFilter:
    """The filter that the query parameters of a listing ask for.

    Raises:
        BadRequestError: an unknown state, a tag without a key, or too many of either.
    """
    query = request.query_params
    for name in ("state", "tag"):
        if sum(1 + text.count(",") * (name == "state") for text in query.getlist(name)) > _MOST_FILTERS:
            raise BadRequestError(f"more than {_MOST_FILTERS} filters by {name}; ask for fewer at once")
    owner, viewer = _whose(request, query.get("owner"))
    return listing.RunFilter(
        owner=owner,
        viewer=viewer,
        states=tuple(_state(name) for text in query.getlist("state") for name in text.split(",")),
        tags=tuple(_tag(text) for text in query.getlist("tag")),
        workflow_name=_plain("workflow_name", query.get("workflow_name") or "") or None,
    )


def _whose(request: Request, asked: str | None) -> tuple[str | None, Viewer | None]:
    """Whose runs a list shows: the caller's own, also of an admin, unless they ask for others'."""
    own = caller(request)
    if not asked or asked == own:
        return own, None
    return None if asked == EVERYBODY else _plain("owner", asked), viewer_of(request)


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        raise BadRequestError(
            f"state {name[:40]!r} is none of WES's: {', '.join(state.value for state in State)}"
        ) from None


def _tag(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise BadRequestError(f"tag {text[:80]!r} has no key; write key or key=value")
    return _plain("tag", key), _plain("tag", value)


def _plain(name: str, text: str) -> str:
    if "\0" in text:
        raise BadRequestError(f"{name} has a NUL character")
    return text


class _Page:
    """One page of a listing, read in a thread."""

    def __init__(self, which: listing.RunFilter, size: int, position: tuple[int, int] | None) -> None:
        self._which = which
        self._size = size
        self._position = position

    def read(self, service: Service) -> dict[str, object]:
        database, which = service.database, self._which
        newest, before = self._position or (listing.newest_seq(database, which), None)
        rows = listing.list_runs(database, which, newest, before, self._size + 1)
        shown, more = rows[: self._size], len(rows) > self._size
        return {
            "runs": [run_summary(row, with_owner=which.viewer is not None) for row in shown],
            "next_page_token": paging.make_token(repr(which), newest, shown[-1].seq) if more else "",
            "total_runs": service.totals.count(which, newest),
        }
