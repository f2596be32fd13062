"""POST /runs/{run_id}/rerun: a new run that takes over what an earlier one has done."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import principal_of
from wes_bridge.auth.safe import Safe, SafeError
from wes_bridge.data.publishing import ATTACHMENTS
from wes_bridge.engine.rerun import prepare
from wes_bridge.model.containers import PARAMETER, Containers, ContainersError, settled
from wes_bridge.model.run_options import (
    RERUN,
    RESOURCES,
    SET,
    OptionsError,
    did_you_mean,
    names_step,
    run_options,
    unknown_step,
)
from wes_bridge.model.states import State
from wes_bridge.store import runs
from wes_bridge.store.runs import TaskRow
from wes_bridge.store.secret_inputs import get_secrets, put_secrets
from wes_bridge.store.writer import DoubtfulError
from wes_bridge.surface.audit import note_made
from wes_bridge.wes.authorise import Handover, Store
from wes_bridge.wes.body import read_object
from wes_bridge.wes.errors import (
    ApiError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    UpstreamError,
    in_doubt,
)
from wes_bridge.wes.service import Service, json_response
from wes_bridge.wes.sharing import shared_with


class _Resources(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ram: str | None = None
    cores: float | None = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    again: str | list[str] = Field(default_factory=list, alias="from")
    inputs: dict[str, Any] = Field(default_factory=dict)
    resources: dict[str, _Resources] = Field(default_factory=dict)
    containers: Containers | None = None

    @property
    def steps(self) -> list[str]:
        """Steps to be run again."""
        return [self.again] if isinstance(self.again, str) else self.again


@dataclass(frozen=True)
class _Old:
    """The run that is done again."""

    row: Row[Any]
    tasks: list[TaskRow]

    def check(self, name: str, field: str, *, begun: bool) -> None:
        """Refuse a name that means no step; unless ``begun``, it may mean one the run did not come to."""
        known = [task.key for task in self.tasks]
        unsure = not begun and self.row.state != State.COMPLETE
        if not unsure and not any(names_step(name, key.split("/")) for key in known):
            raise BadRequestError(f"{field}: {unknown_step(name, known)}")


class RerunHandlers:
    """Doing runs again."""

    def __init__(self, service: Service, handover: Handover) -> None:
        self._service = service
        self._handover = handover

    async def post(self, request: Request) -> Response:
        """RerunRun."""
        service = self._service
        user = principal_of(request)
        service.allowances.check_rate(user)
        row = await service.run_of(request, changing=True)
        body = _read(await read_object(request))
        if not State(row.state).is_final:
            raise ConflictError(
                f"run {row.run_id} is {row.state}: wait for its end, or cancel it"
                f" (POST .../runs/{row.run_id}/cancel), and ask again"
            )
        old = _Old(row, await service.threads.sql(runs.journal, service.database, row.run_id))
        folder = service.workspace.run(row.run_id)
        declared = await service.threads.files(folder.declared_inputs)
        changed = _changed(old, body, service.config.engine.containers, declared)
        parameters: dict[str, str] = changed["workflow_engine_parameters"]
        groups = shared_with(parameters, user, service.config.sharing)
        new = runs.NewRun(uuid.uuid4().hex, row.owner, changed, row.tags, row.workflow_name, groups)
        is_own = user.name == row.owner  # an administrator acts for nobody
        tokens = await self._handover.taken(request, new.run_id) if is_own else None
        base = service.links(request).base
        sealed = await service.threads.files(self._carried_secrets, row.run_id, new.run_id)

        def create(connection: Connection) -> bool:
            service.allowances.check_runs(connection, user)
            return _create(connection, new, row.run_id, base, tokens, sealed)

        await self._store(old, new, body.steps, create)
        service.wake()
        note_made(request.scope, new.run_id)
        return json_response({"run_id": new.run_id})

    def _carried_secrets(self, old_id: str, new_id: str) -> str | None:
        """The secret inputs of the earlier run, put away for the new one. Blocks."""
        config, sealed = self._service.config, get_secrets(self._service.database, old_id)
        if sealed is None:
            return None
        safe = Safe(config.delegation.key, config.state_dir)
        try:
            return safe.seal_text(new_id, safe.open_text(old_id, sealed))
        except SafeError as error:
            raise ApiError(str(error)) from error

    async def _store(
        self,
        old: _Old,
        new: runs.NewRun,
        steps: list[str],
        create: Callable[[Connection], bool],
    ) -> None:
        """Files first, then the row: a worker never finds half of it. Failures leave nothing, doubts all."""
        service, old_id = self._service, old.row.run_id

        def again(task: TaskRow) -> bool:
            return any(names_step(name, task.key.split("/")) for name in steps)

        folder = service.workspace.run(new.run_id).root
        try:
            await service.threads.files(prepare, service.workspace, old_id, new.run_id, old.tasks, again)
            await self._bring_attachments(old_id, folder)
            if not await service.writer(create):
                raise NotFoundError(f"run {old_id} was deleted just now")
        except DoubtfulError as error:
            raise in_doubt(new.run_id) from error
        except BaseException:
            await service.threads.files(lambda: shutil.rmtree(folder, ignore_errors=True))
            raise

    async def _bring_attachments(self, old_id: str, folder: Path) -> None:
        """Those of a run that is in the store only.

        Raises:
            UpstreamError: the store does not give them.
        """
        stored, place = self._service.stored, folder / ATTACHMENTS
        old, threads = self._service.workspace.run(old_id).root, self._service.threads
        if stored is None or await threads.files(old.exists) or await threads.files(place.exists):
            return
        try:
            await stored.fetch(old_id, ATTACHMENTS, place)
        except OSError as error:
            text = f"the attachments of run {old_id} cannot be had from the store: {error}"
            raise UpstreamError(text) from error


def _create(  # noqa: PLR0917
    connection: Connection,
    new: runs.NewRun,
    old_id: str,
    base: str,
    tokens: Store | None,
    sealed: str | None,
) -> bool:
    if not runs.create_rerun(connection, new, old_id, base):
        return False
    if sealed is not None:
        put_secrets(connection, new.run_id, sealed, None)
    if tokens is not None:
        tokens(connection)
    return True


def _read(fields: Mapping[str, Any]) -> _Body:
    try:
        return _Body.model_validate(dict(fields))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise BadRequestError(f"{where}: there is no such field here") from error
        raise BadRequestError(f"{where}: {problem['msg']}") from error


def _check_inputs(old: _Old, inputs: Mapping[str, Any], declared: list[str] | None) -> None:
    """Refuse a name that is no input of the workflow; where that is not known, the new run itself will."""
    given = old.row.request.get("workflow_params") or {}
    for name in inputs:
        if declared is not None and name not in declared and name not in given:
            raise BadRequestError(
                f"inputs: the workflow has no input {name[:80]!r}; {did_you_mean(name, declared)}"
            )


def _changed(old: _Old, body: _Body, containers: Containers, declared: list[str] | None) -> dict[str, Any]:
    """The request of the new run.

    Args:
        old: the run that is done again.
        body: what is to be different.
        containers: what the site says of them.
        declared: the workflow's inputs; None where they are not known.

    Raises:
        BadRequestError: a step or an input is not there, an amount is none, or the site forbids it.
    """
    for name in body.steps:
        old.check(name, "from", begun=True)
    _check_inputs(old, body.inputs, declared)
    parameters = {
        name: text
        for name, text in (old.row.request.get("workflow_engine_parameters") or {}).items()
        if not name.startswith(RERUN)
    }
    for name, wanted in body.resources.items():
        old.check(name, "resources", begun=False)
        if wanted.ram is not None:
            parameters[f"{RESOURCES}{name}.ram"] = wanted.ram
        if wanted.cores is not None:
            parameters[f"{RESOURCES}{name}.cores"] = f"{wanted.cores:g}"
    if body.containers is not None:
        parameters[PARAMETER] = body.containers
    try:
        settled(containers, run_options(parameters).containers)
    except (OptionsError, ContainersError) as error:
        raise BadRequestError(str(error)) from error
    parameters[f"{RERUN}of"] = old.row.run_id
    if body.inputs:
        parameters[SET] = ",".join(body.inputs)
    if body.steps:
        parameters[f"{RERUN}from"] = ",".join(body.steps)
    inputs = {**(old.row.request.get("workflow_params") or {}), **body.inputs}
    request: dict[str, Any] = dict(old.row.request)
    return request | {"workflow_params": inputs, "workflow_engine_parameters": parameters}
