"""Logs and files that are on a node: asked for there and passed on, a chunk at a time, never as a page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wes_bridge.auth import acting
from wes_bridge.fetching.errors import UrlError
from wes_bridge.fetching.urls import parse_url
from wes_bridge.wes.errors import NotFoundError, UpstreamError
from wes_bridge.wes.sending import nothing_there, send_nothing

_ASK = ("range", "if-range", "if-none-match", "if-modified-since")
_ANSWER = (
    "content-length",
    "content-range",
    "content-encoding",
    "accept-ranges",
    "etag",
    "last-modified",
)


TEXT = "text/plain; charset=utf-8"
"""Whatever a node calls it: a log is text, and no page."""


async def pass_through(
    request: Request, url: str, client: httpx.AsyncClient, owner: str, *, is_kept: bool = False
) -> Response:
    """What ``url`` answers, with the range and conditions of our request.

    A node that does not have the stream yet is answered for with empty text.

    Args:
        request: the client's.
        url: at the node.
        client: what asks it.
        owner: of the run, on whose behalf the session was made and is asked for, whoever the caller is.
        is_kept: whether it is in an output that the node keeps; else it may not be there yet.

    Raises:
        UpstreamError: the node cannot be reached, or fails.
        NotFoundError: the node does not keep it any more.
        NoSuchRangeError: nothing there yet.
    """
    headers = {name: request.headers[name] for name in _ASK if name in request.headers}
    headers |= acting.headers(owner)
    headers["accept-encoding"] = "identity"  # a range is of the text, not of its compressed form
    try:
        place = str(parse_url(url))
        answer = await client.send(client.build_request(request.method, place, headers=headers), stream=True)
    except (httpx.HTTPError, httpx.InvalidURL, UrlError) as error:
        raise UpstreamError(
            f"the node that holds this does not answer ({type(error).__name__}); try again later"
        ) from error
    if answer.status_code in (200, 206, 304):
        kept = {name: answer.headers[name] for name in _ANSWER if name in answer.headers}
        kept["Content-Type"] = TEXT
        return StreamingResponse(_body(answer), answer.status_code, kept)
    await answer.aclose()
    if answer.status_code == 416:
        raise nothing_there(_known_size(answer.headers.get("content-range", "")))
    if is_kept and answer.status_code in (404, 410):
        raise NotFoundError(
            "the node that made this file does not keep it any more: intermediate files are freed as soon as"
            " no step needs them (engine.keep_intermediates keeps them until the run ends)"
        )
    if answer.status_code == 404:
        return send_nothing(request)
    raise UpstreamError(f"the node that holds this answered {answer.status_code}; try again later")


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:  # the client sees that it is not all
        raise EOFError(f"the node stopped sending ({type(error).__name__})") from error
    finally:
        await answer.aclose()


def _known_size(content_range: str) -> int:
    size = content_range.rpartition("/")[2]
    return int(size) if size.isdigit() else 0
