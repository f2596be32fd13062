"""GET /health: whether the service can do its work, for load balancers and those who watch it."""

from __future__ import annotations

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wes_bridge.wes.errors import describe
from wes_bridge.wes.service import Service


class HealthHandlers:
    """Health. Says nothing that is not for everybody."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def get(self, _request: Request) -> Response:
        """200 when the database answers, else 503 with the reason; nothing but the database is looked at."""
        try:
            await self._service.threads.sql(self._look)
        except Exception as error:
            _, reason, headers = describe(error)
            return JSONResponse({"status": "failing", "database": reason}, 503, headers)
        return JSONResponse({"status": "ok", "database": "ok"})

    def _look(self) -> None:
        with self._service.database.read() as connection:
            connection.execute(text("SELECT 1"))
