"""The tasks of a run."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.store import runs
from wes_bridge.wes import paging
from wes_bridge.wes.render import task_log
from wes_bridge.wes.service import Service, json_response


class TaskHandlers:
    """Operations on tasks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list(self, request: Request) -> Response:
        """ListTasks."""
        run_id = (await self._service.state_of(request)).run_id
        size = paging.page_size(request.query_params.get("page_size"))
        token = request.query_params.get("page_token")
        _, after = paging.read_token(run_id, token) if token else (0, -1)
        rows = await self._service.threads.sql(
            runs.list_tasks, self._service.database, run_id, after, size + 1
        )
        links, shown = self._service.links(request), rows[:size]
        more = len(rows) > size
        return json_response(
            {
                "task_logs": [task_log(row, links) for row in shown],
                "next_page_token": paging.make_token(run_id, 0, shown[-1].seq) if more else "",
            }
        )

    async def get(self, request: Request) -> Response:
        """GetTask."""
        row, _ = await self._service.task_of(request)
        return json_response(task_log(row, self._service.links(request)))
