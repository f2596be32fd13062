"""The aggregator's HTTP operations, as methods named after the ``operationId`` of our document."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wes_bridge.aggregator.aggregator import Aggregator
from wes_bridge.aggregator.book import Item, Record
from wes_bridge.aggregator.choosing import is_acceptance
from wes_bridge.aggregator.hops import Way
from wes_bridge.aggregator.messages import Json
from wes_bridge.aggregator.sessions import RefusedError, Told
from wes_bridge.aggregator.upstream import LateError
from wes_bridge.auth.acting import act_for, may_see, owner_key, person_of
from wes_bridge.auth.identity import principal_of
from wes_bridge.auth.signed_urls import raw_path
from wes_bridge.federation.client import BrokerError, SessionGoneError
from wes_bridge.model.data_urls import is_output_name, read_data_path
from wes_bridge.model.execution_broker import SCHEDULED_SESSION, ExecutionRequest, Update
from wes_bridge.model.headers import DIALECT, EXECUTABLE
from wes_bridge.model.manifest import MEDIA_TYPE
from wes_bridge.model.states import Phase
from wes_bridge.surface import http
from wes_bridge.surface.errors import BadRequestError
from wes_bridge.surface.forwarded import Proxies

_ASKED = ("range", "if-range", "if-none-match", "if-modified-since")
_ANSWERED = (
    *("content-length", "content-range", "accept-ranges", "etag", "last-modified", "cache-control"),
    EXECUTABLE.lower(),
)
_STREAMED = frozenset({200, 206, 304, 416})
_BYTES = "application/octet-stream"
_PLAIN = frozenset({_BYTES, "text/plain", MEDIA_TYPE})
"""Media types passed on as they are; others could do harm in a browser that trusts this server."""
_CHUNK = 256 * 1024


class Api:
    """Handlers.

    Args:
        aggregator: what they work on.
    """

    def __init__(self, aggregator: Aggregator) -> None:
        config = aggregator.config
        self._aggregator = aggregator
        self._limit = config.max_body
        self._most = config.max_answer
        public = str(config.public_url) if config.public_url else None
        self._proxies = Proxies(public, config.trusted_proxies)

    async def request_offers(self, request: Request) -> Response:
        """``POST /requests``: 303 to the merged offer set, which is also the body."""
        wanted = await http.read_object(request, ExecutionRequest, self._limit)
        owner = _acting(request)
        record = await self._aggregator.offer(
            wanted, _way(request), http.wait_preference(request), owner, dialect=_dialect(request)
        )
        base = self._proxies.base(request)
        told = await self._aggregator.tell_made(record, base)
        return http.answer(request, _json(told), 303, {"Location": told["meta"]["url"]})

    async def run_directly(self, request: Request) -> Response:
        """``POST /direct``: 303 to the accepted session; 400 with a FAILED session that says why not."""
        wanted = await http.read_object(request, ExecutionRequest, self._limit)
        base = self._proxies.base(request)
        owner = _acting(request)
        record, item, told = await self._aggregator.direct(
            wanted, _way(request), base, owner, dialect=_dialect(request)
        )
        if item is None or told is None:
            return http.answer(request, _json(_refusal(wanted, record)), 400)
        headers = {"Location": f"{base}/sessions/{item.uuid}"} | _etag(told)
        return http.answer(request, _json(told.data), 303, headers)

    async def get_offerset(self, request: Request) -> Response:
        """``GET /offersets/{uuid}``."""
        uuid = _uuid(request)
        record = await self._aggregator.book.record(uuid)
        if record is None or not _is_own(request, record):
            raise BadRequestError(f"no offer set {uuid}", 404)
        told = await self._aggregator.tell_now(record, self._proxies.base(request))
        return http.answer(request, _json(told))

    async def get_session(self, request: Request) -> Response:
        """``GET /sessions/{uuid}``: at once, or with ``Prefer: wait=N`` once it has changed."""
        _, item = await self._session(request)
        seen, wait = http.etag_seen(request), http.wait_preference(request)
        base = self._proxies.base(request)
        with _broker_errors():
            told = await self._aggregator.sessions.read(item, base, seen, wait, lambda: _gone(request))
        headers = _etag(told) | {"Cache-Control": "no-cache"}
        if wait:
            headers["Preference-Applied"] = f"wait={wait:g}"
        if told.data is None:
            return Response(status_code=304, headers=headers)
        return http.answer(request, _json(told.data), headers=headers)

    async def update_session(self, request: Request) -> Response:
        """``POST /sessions/{uuid}``: passed on; accepting an offer rejects those of other brokers."""
        record, item = await self._session(request)
        update = await http.read_object(request, Update, self._limit)
        base, wait = self._proxies.base(request), http.wait_asked(request)
        with _broker_errors():
            if is_acceptance(update):
                told = await self._aggregator.chooser.accept(record, item, update, base, wait or 0)
            else:
                told = await self._aggregator.sessions.update(item, update, base, wait)
        return http.answer(request, _json(told.data), headers=_etag(told))

    async def get_stream(self, request: Request) -> Response:
        """``GET /streams/{uuid}/{stream}``: passed on, in pieces."""
        _, item = await self._session(request)
        name = request.path_params["stream"]
        if name not in ("stdout", "stderr"):
            raise BadRequestError(f"no stream {name!r}; there are stdout and stderr", 404)
        with _broker_errors():
            answer = await self._aggregator.sessions.stream(item, name, request.method, _conditions(request))
            return await self._pass_on(item, answer)

    async def get_manifest(self, request: Request) -> Response:
        """``GET /data/{uuid}/{output}``: passed on, in pieces."""
        return await self._read_data(request)

    async def get_data(self, request: Request) -> Response:
        """``GET /data/{uuid}/{output}/{path}``: passed on, in pieces."""
        return await self._read_data(request)

    async def release_output(self, request: Request) -> Response:
        """``DELETE /data/{uuid}/{output}``: passed on."""
        await self._ask_of_data(request, "data")
        return Response(status_code=204)

    async def get_lease(self, request: Request) -> Response:
        """``GET /leases/{uuid}/{output}``: passed on."""
        return await self._ask_of_data(request, "leases")

    async def renew_lease(self, request: Request) -> Response:
        """``POST /leases/{uuid}/{output}``: passed on."""
        return await self._ask_of_data(request, "leases")

    async def sign_url(self, request: Request) -> Response:
        """``POST /urls/{uuid}/{output}``: the broker's URL, as it is: bytes are to go around us."""
        return await self._ask_of_data(request, "urls")

    async def _read_data(self, request: Request) -> Response:
        place = read_data_path(raw_path(request.scope))
        if place is None:
            raise BadRequestError("this is no address of a kept output: /data/SESSION/OUTPUT/PATH", 404)
        _, item = await self._session(request)
        with _broker_errors():
            answer = await self._aggregator.kept.open(item, place, request.method, _conditions(request))
            return await self._pass_on(item, answer)

    async def _ask_of_data(self, request: Request, what: str) -> Response:
        _, item = await self._session(request)
        output = request.path_params["output"]
        if not is_output_name(output):
            raise BadRequestError(f"no output {output[:128]!r} of session {item.uuid} is kept", 404)
        body = await http.read_body(request, self._limit) if request.method == "POST" else b""
        with _broker_errors():
            try:
                told = await self._aggregator.kept.ask(item, what, output, request.method, body or None)
            except ValueError as error:
                raise BrokerError(f"{item.broker} sent something that is not JSON") from error
        if isinstance(told, dict) and "session" in told:
            told["session"] = item.uuid
        return http.answer(request, _json(told))

    async def get_link(self, request: Request) -> Response:
        """``GET /links/{uuid}``: something a broker linked to; JSON with its URLs rewritten, too."""
        uuid = _uuid(request)
        found = await self._aggregator.book.link(uuid)
        if found is None or not _is_own(request, found[0]):
            raise BadRequestError(f"no link {uuid}", 404)
        _, item, url = found
        with _broker_errors():
            answer = await self._aggregator.sessions.link(item, url, request.method, _conditions(request))
            is_json = answer.status == 200 and answer.content_type in (http.JSON, "text/json")
            if not is_json or request.method == "HEAD":
                return await self._pass_on(item, answer)
            try:
                content = await _read(answer, self._most, item.broker)
                told = await self._aggregator.sessions.tell_anything(
                    item, content, self._proxies.base(request)
                )
            except (ValueError, RecursionError) as error:
                raise BrokerError(f"{item.broker} sent something that is not JSON") from error
            finally:
                answer.release()
        return http.answer(request, _json(told))

    async def get_health(self, request: Request) -> Response:
        """``GET /health``: which brokers are away; 503 when all are."""
        told = await self._aggregator.health(_way(request))
        return http.answer(request, _json(told), 503 if told["status"] == "failing" else 200)

    async def _session(self, request: Request) -> tuple[Record, Item]:
        uuid = _uuid(request)
        found = await self._aggregator.book.item(uuid)
        if found is None or not _is_own(request, found[0]):
            raise BadRequestError(f"no session {uuid}", 404)
        return found

    async def _pass_on(self, item: Item, answer: aiohttp.ClientResponse) -> Response:
        if answer.status not in _STREAMED:
            status = answer.status
            answer.release()
            if status in (404, 410):
                raise SessionGoneError(f"{item.broker} does not have this (yet, or any more)")
            raise BrokerError(f"{item.broker} answered {status}")
        headers = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
        if "content-encoding" in answer.headers:
            headers.pop("content-length", None)
        kind = answer.content_type if answer.content_type in _PLAIN else _BYTES
        headers["Content-Disposition"] = "attachment" if kind == _BYTES else "inline"
        return StreamingResponse(_chunks(answer), answer.status, headers, kind)


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            yield chunk
    finally:
        answer.close() if not answer.content.at_eof() else answer.release()


async def _read(answer: aiohttp.ClientResponse, most: int, broker: str) -> bytes:
    content = bytearray()
    try:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            content += chunk
            if len(content) > most:
                raise BrokerError(f"{broker} sent more than {most} bytes")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BrokerError(f"{broker} did not send all of its answer") from error
    return bytes(content)


@contextlib.contextmanager
def _broker_errors() -> Iterator[None]:
    """What is wrong with a broker, as an answer to our client."""
    try:
        yield
    except SessionGoneError as error:
        raise BadRequestError(str(error), 404) from error
    except RefusedError as error:
        raise BadRequestError(str(error), error.status or 400) from error
    except LateError as error:
        raise BadRequestError(str(error), 504) from error
    except BrokerError as error:
        raise BadRequestError(str(error), 502) from error


def _uuid(request: Request) -> str:
    text = request.path_params["uuid"]
    try:
        return str(UUID(text))
    except ValueError:
        raise BadRequestError(f"not a UUID: {text[:80]!r}") from None


def _acting(request: Request) -> str:
    """Whose what this request makes is; brokers are asked on their behalf from here on."""
    owner = owner_key(principal_of(request))
    act_for(person_of(owner))
    return owner


def _is_own(request: Request, record: Record) -> bool:
    """Whether the caller may see an offer set and its sessions; brokers are asked on its owner's behalf."""
    act_for(person_of(record.owner))
    return may_see(principal_of(request), record.owner)


def _way(request: Request) -> Way:
    return Way.read(request.headers.getlist("via"))


def _dialect(request: Request) -> str | None:
    return request.headers.get(DIALECT)


def _conditions(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _ASKED if name in request.headers}


def _etag(told: Told) -> dict[str, str]:
    return {"ETag": told.etag} if told.etag else {}


async def _gone(request: Request) -> None:
    """Return when the client is not there any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()


def _refusal(wanted: Json, record: Record) -> Json:
    """A session that failed before it began, with the reasons of a NO."""
    reasons = record.body["meta"].get("messages", [])
    parts = {name: wanted[name] for name in ("executable", "compute", "storage", "data") if wanted.get(name)}
    return {
        "kind": SCHEDULED_SESSION,
        "meta": {"messages": reasons},
        "phase": Phase.FAILED,
        "message": "; ".join(str(reason.get("message", "")) for reason in reasons),
        **parts,
    }
