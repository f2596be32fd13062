"""POST /runs: from a request's first byte to a run that an engine worker can claim."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import caller, principal_of
from wes_bridge.data.attachments import Incoming
from wes_bridge.data.workspace import RunFolder
from wes_bridge.engine.runlog import RunLog
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.model.run_options import did_you_mean
from wes_bridge.model.states import State
from wes_bridge.store import runs
from wes_bridge.store.webhooks import Webhook, create_webhook
from wes_bridge.store.writer import DoubtfulError
from wes_bridge.surface.audit import note_made
from wes_bridge.wes.authorise import Handover, Store
from wes_bridge.wes.body import read_fields
from wes_bridge.wes.capabilities import engine_versions
from wes_bridge.wes.errors import TooLargeError, in_doubt
from wes_bridge.wes.service import Service, json_response
from wes_bridge.wes.sharing import shared_with
from wes_bridge.wes.submission import FIELDS, Rules, Submission, checked


class SubmitHandlers:
    """Submission."""

    def __init__(self, service: Service, handover: Handover) -> None:
        self._service = service
        self._handover = handover
        fetch, containers = service.config.fetch, service.config.engine.containers
        hosts = PrivateHosts(fetch.private_hosts)
        self._rules = Rules(engine_versions(), tuple(fetch.files), hosts, containers)
        self._states = tuple(State(name) for name in service.config.events.webhook_states)

    async def post(self, request: Request) -> Response:
        """RunWorkflow.

        Attachments are in their place before the run is stored: a worker never finds half of them. Whatever
        fails, nothing stays; unless it cannot be known whether the run was stored, which the caller is told.
        """
        owner = caller(request)
        self._service.allowances.check_rate(principal_of(request))
        run_id = uuid.uuid4().hex
        incoming = Incoming(self._service.workspace, run_id, self._service.config.max_attachments)
        try:
            await self._store(request, run_id, owner, incoming)
        except DoubtfulError as error:
            raise in_doubt(run_id) from error
        except BaseException:
            await self._service.threads.files(incoming.discard)
            raise
        self._service.wake()
        note_made(request.scope, run_id)
        return json_response({"run_id": run_id})

    async def _store(self, request: Request, run_id: str, owner: str, incoming: Incoming) -> None:
        service = self._service
        user, allowances = principal_of(request), service.allowances
        left = await allowances.attachments_left(user)
        fields = await self._fields(request, incoming, left)
        names = set(incoming.names)
        submission = await checked(fields, names.__contains__, self._rules, service.threads)
        if names:
            await service.threads.files(incoming.publish)
            allowances.added(user, incoming.size)
        parameters: dict[str, str] = submission.request["workflow_engine_parameters"]
        groups = shared_with(parameters, user, service.config.sharing)
        run = runs.NewRun(
            run_id, owner, submission.request, submission.tags, submission.workflow_name, groups
        )
        webhook = self._webhook(submission, service.links(request).base)
        tokens = await self._handover.taken(request, run_id)

        def store(connection: Connection) -> None:
            allowances.check_runs(connection, user)
            _create(connection, run, webhook, tokens)

        await service.writer(store)
        if submission.unknown:
            await service.threads.files(_warn_of, service.workspace.run(run_id), submission.unknown)

    async def _fields(self, request: Request, incoming: Incoming, left: int | None) -> Mapping[str, Any]:
        """The submission's fields; no more comes of it than its user may still keep."""
        config, threads = self._service.config, self._service.threads
        if left is None or left >= config.max_body:
            return await read_fields(request, incoming, config.max_body, threads)
        try:
            return await read_fields(request, incoming, left, threads)
        except TooLargeError as error:
            raise self._service.allowances.no_room(principal_of(request)) from error

    def _webhook(self, submission: Submission, base: str) -> Webhook | None:
        asked = submission.webhook
        if asked is None:
            return None
        states = self._states if asked.states is None else asked.states
        return Webhook(asked.url, asked.secret, states, base)


def _warn_of(folder: RunFolder, fields: Iterable[str]) -> None:
    """Say in a run's log that fields of its submission mean nothing here; blocking."""
    with contextlib.closing(RunLog(folder.stderr, folder.attachments)) as log:
        for name in fields:
            log.warning(
                f"the submission's field {name[:80]!r} means nothing here and is ignored; "
                + did_you_mean(name, FIELDS)
            )


def _create(connection: Connection, run: runs.NewRun, webhook: Webhook | None, tokens: Store | None) -> None:
    runs.create_run(connection, run)
    if tokens is not None:
        tokens(connection)
    if webhook is not None:
        create_webhook(connection, run.run_id, webhook)
