"""The WES server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from connexion.middleware.exceptions import ExceptionMiddleware
from connexion.middleware.lifespan import LifespanMiddleware
from connexion.middleware.routing import RoutingMiddleware
from connexion.middleware.server_error import ServerErrorMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from starlette.types import ASGIApp

from wes_bridge.auth.rates import limited
from wes_bridge.config import ServiceConfig
from wes_bridge.store.database import Database
from wes_bridge.surface.refusing import error_body
from wes_bridge.surface.safe_headers import SafeHeaders
from wes_bridge.wes.authorise import AuthoriseHandlers, Handover
from wes_bridge.wes.binding import CheckedMiddleware, DirectApp, Handler, bound_resolver
from wes_bridge.wes.brokers import BrokerHandlers
from wes_bridge.wes.document import BASE_PATH, load_document
from wes_bridge.wes.errors import HANDLED, error_answers
from wes_bridge.wes.events import EventHandlers
from wes_bridge.wes.files import FileHandlers
from wes_bridge.wes.handed import HandedHandlers
from wes_bridge.wes.health import HealthHandlers
from wes_bridge.wes.pages import PageHandlers
from wes_bridge.wes.planning import PlanHandlers
from wes_bridge.wes.rerun import RerunHandlers
from wes_bridge.wes.runs import RunHandlers
from wes_bridge.wes.service import Service
from wes_bridge.wes.service_info import ServiceInfoHandlers
from wes_bridge.wes.submit import SubmitHandlers
from wes_bridge.wes.tasks import TaskHandlers


def create_app(
    config: ServiceConfig,
    database: Database,
    wake: Callable[[], None],
    closing: asyncio.Event | None = None,
) -> ASGIApp:
    """The server.

    Args:
        config: where it keeps things and what it allows.
        database: runs and tasks, shared with the engine workers; not closed here.
        wake: called after a run was submitted or its cancellation asked for; must not block.
        closing: set when the server is about to stop: streams of events end, which would never end else.

    Returns:
        An ASGI application with lifespan; the API is below ``/ga4gh/wes/v1``, its Swagger UI at ``ui/``.
    """
    service = Service(config, database, wake)
    plans = PlanHandlers(service)

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        await service.start()
        ending = asyncio.create_task(_end_streams(service, closing))
        try:
            yield
        finally:
            await plans.close()
            ending.cancel()
            await service.stop()

    document = load_document()
    on_error = error_answers(document, BASE_PATH)
    app = DirectApp("wes_bridge.wes", lifespan=lifespan, middlewares=_middlewares(on_error))
    for kind in HANDLED:
        app.add_error_handler(kind, on_error)
    pages = PageHandlers(config.name, service.public_url)
    app.add_url_rule("/", "home", pages.home)
    app.add_url_rule("/docs", "docs", pages.docs)
    app.add_url_rule("/health", "health", HealthHandlers(service).get)
    app.add_url_rule("/metrics", "metrics", BrokerHandlers(service).metrics)
    handed = HandedHandlers(service).answer
    app.add_url_rule("/data/{rest:path}", "data", handed, methods=["GET", "PUT", "POST"])
    app.add_api(document, base_path=BASE_PATH, resolver=bound_resolver(_table(service, plans)))
    asgi: ASGIApp = SafeHeaders(limited(app, config.limits, partial(error_body, 429)))
    return asgi


def routes() -> list[str]:
    """Templates of the API's paths."""
    return [BASE_PATH + path for path in load_document()["paths"]]


async def _end_streams(service: Service, closing: asyncio.Event | None) -> None:
    if closing is not None:
        await closing.wait()
        service.watcher.end_streams()


def _middlewares(on_error: object) -> list[object]:
    """connexion's stack without what is not used: security, response validation, global context."""
    return [
        partial(ServerErrorMiddleware, handler=on_error),
        ExceptionMiddleware,
        SwaggerUIMiddleware,
        RoutingMiddleware,
        CheckedMiddleware,
        LifespanMiddleware,
    ]


def _table(service: Service, plans: PlanHandlers) -> dict[str, Handler]:
    """The handler of each operation of the document."""
    handover = Handover(service)
    info, submit = ServiceInfoHandlers(service), SubmitHandlers(service, handover)
    runs, tasks, files = RunHandlers(service), TaskHandlers(service), FileHandlers(service)
    events = EventHandlers(service)
    return {
        "GetServiceInfo": info.get,
        "ListRuns": runs.list,
        "RunWorkflow": submit.post,
        "PlanRun": plans.post,
        "GetRunLog": runs.get,
        "DeleteRun": runs.delete,
        "GetRunStatus": runs.status,
        "CancelRun": runs.cancel,
        "GetRunEvents": events.get,
        "HeadRunEvents": events.get,
        "AuthoriseRun": AuthoriseHandlers(service, handover).post,
        "RerunRun": RerunHandlers(service, handover).post,
        "ListTasks": tasks.list,
        "GetTask": tasks.get,
        "GetRunStream": files.run_stream,
        "HeadRunStream": files.run_stream,
        "GetTaskStream": files.task_stream,
        "HeadTaskStream": files.task_stream,
        "GetRunFile": files.run_file,
        "HeadRunFile": files.run_file,
    }
