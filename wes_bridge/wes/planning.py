"""POST /runs/plan: what a run would do and take. A process of its own makes the plan, so that the API answers
on, and one that takes too long can be killed; nothing of the request is kept.

Who plans once often plans again soon: after a plan the next planner is started ahead, and waits a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import uuid
from asyncio.subprocess import Process
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import principal_of
from wes_bridge.auth.principal import Principal
from wes_bridge.data.attachments import Incoming
from wes_bridge.model.run_plan import UNSUPPORTED
from wes_bridge.start import command
from wes_bridge.wes.body import read_fields
from wes_bridge.wes.capabilities import engine_versions
from wes_bridge.wes.errors import ApiError, BadRequestError
from wes_bridge.wes.service import Service, json_response
from wes_bridge.wes.submission import Rules, Submission, checked

_LOG = logging.getLogger(__name__)
_PLANNER = command("wes_bridge.engine.plan.main")


class PlanHandlers:
    """Planning."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._rules = Rules(
            engine_versions(),
            tuple(service.config.fetch.files),
            containers=service.config.engine.containers,
        )
        self._turns = asyncio.Semaphore(service.config.engine.plans_at_once)
        self._spare: asyncio.Task[Process] | None = None

    async def close(self) -> None:
        """End the planner that waits, if there is one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await _end(await spare)

    async def post(self, request: Request) -> Response:
        """PlanRun."""
        service = self._service
        user = principal_of(request)
        service.allowances.check_rate(user)
        run_id = uuid.uuid4().hex
        incoming = Incoming(service.workspace, run_id, service.config.max_attachments)
        try:
            fields = await read_fields(request, incoming, service.config.max_body, service.threads)
            submission = await checked(fields, set(incoming.names).__contains__, self._rules, service.threads)
            result = await self._planned(submission, run_id, incoming, user)
        finally:
            await service.threads.files(incoming.discard)
        if "plan" not in result:
            start = UNSUPPORTED if result.get("unsupported") else ""
            raise BadRequestError(f"{start}{result.get('error') or 'the plan cannot be made'}")
        return json_response(result["plan"])

    async def _planned(
        self, submission: Submission, run_id: str, incoming: Incoming, principal: Principal
    ) -> dict[str, Any]:
        """What the planner says; see :class:`wes_bridge.engine.plan.main.Job` and ``Result``."""
        config = self._service.config
        has_token = config.delegates and principal.token is not None
        token = principal.token.get_secret_value() if has_token and principal.token else ""
        job = {
            "config": config.model_dump(mode="json"),
            "request": submission.request,
            "run_id": run_id,
            "owner": principal.name,
            "token": token,
            "folder": str(incoming.folder),
        }
        async with self._turns:
            try:
                async with asyncio.timeout(config.engine.plan_timeout):
                    answer = await self._answer(json.dumps(job).encode())
            except TimeoutError:
                raise BadRequestError(
                    f"the plan took longer than {config.engine.plan_timeout:g} s (engine.plan_timeout):"
                    " plan a smaller part of the workflow, or with fewer inputs"
                ) from None
        try:
            result: dict[str, Any] = json.loads(answer)
        except ValueError as error:
            raise ApiError("the planner failed; the service's log tells more") from error
        return result

    async def _answer(self, job: bytes) -> bytes:
        """What a planner writes for a job. However this ends, it is gone."""
        spare, self._spare = self._spare, None
        process = await (spare or _start())
        if process.returncode is not None:  # it had waited long enough
            process = await _start()
        try:
            answer, _ = await process.communicate(job)
        finally:
            await _end(process)
        if process.returncode:
            _LOG.error("a planner ended with exit code %s", process.returncode)
        if process.returncode is not None and process.returncode < 0:
            raise BadRequestError(
                f"the plan's process was ended by signal {-process.returncode}: plan a smaller part of the"
                " workflow, or look for what is nested very deeply in it"
            )
        if self._spare is None:
            self._spare = asyncio.create_task(_start(), name="spare planner")
        return answer


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *_PLANNER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
