"""The WES client's methods, one for each thing one can ask of a WES."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from wes_bridge.client.errors import WaitTimeoutError, WESError
from wes_bridge.client.http import Http
from wes_bridge.client.multipart import Multipart
from wes_bridge.client.states import FINAL_STATES
from wes_bridge.client_host import EVENTS_TAG, shares_files

if TYPE_CHECKING:
    from wes_bridge.bundle import Bundle

FIRST_POLL, LAST_POLL, POLL_SHARE = 0.005, 2.0, 0.1
"""Seconds between the first polls, seconds between the last, and the share of the time waited in between."""
PLAN_TIMEOUT = 120.0
"""Seconds a service has for a plan."""

LISTEN_AFTER = 0.5
"""Seconds after which a stream of events is opened; most short runs are over by then."""

Follow = Callable[[dict[str, Any]], None]


class WESClient:
    """A GA4GH WES 1.x service.

    Args:
        url: of the service: its host (``https://wes.example.org``) or its API (``.../ga4gh/wes/v1``).
        auth: a (user, password) pair or any ``requests`` auth object.
        token: OAuth2 bearer token, instead of ``auth``.
        timeout: seconds to connect, and between two bytes of an answer.
        upload: ``True``: files are always uploaded; ``False``: a service on this machine that says it
            reads this machine's files (``wes-bridge serve`` with ``fetch.files``) is given their paths.

    Nothing is sent before the first call. All methods raise :class:`WESError` when the service refuses and
    :class:`WESConnectionError` when it cannot be reached. Requests that may be sent twice are, when the
    connection breaks or the service says it is busy. Not for use by several threads at once.

    Example::

        with WESClient("http://localhost:8080") as wes:
            run = wes.submit("hello.cwl", {"message": "hi"})
            wes.wait(run)
            print(wes.download(run, "results"))
    """

    def __init__(
        self,
        url: str,
        auth: Any = None,
        token: str | None = None,
        timeout: float = 30.0,
        *,
        upload: bool = False,
    ) -> None:
        self._http = Http(url, auth, token, timeout)
        self._upload = upload
        self._info: dict[str, Any] | None = None

    def __enter__(self) -> WESClient:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """The API's base URL (as given, until something was asked)."""
        return self._http.base

    def service_info(self) -> dict[str, Any]:
        """What the service says of itself (``ServiceInfo``), asked anew."""
        self._info = self._http.find_base()
        return self._info

    def _ready(self) -> Http:
        if self._info is None:
            self.service_info()
        return self._http

    def shares_files(self) -> bool:
        """Whether the service reads this machine's files, so that nothing need be uploaded."""
        info = self._info or self.service_info()
        if self._upload:
            return False
        tags = info.get("tags") or {}
        protocols = info.get("supported_filesystem_protocols") or []
        return shares_files(tags, protocols)

    # --- runs

    def submit(
        self,
        workflow: str | Path,
        params: Mapping[str, Any] | str | Path | None = None,
        *,
        attachments: Iterable[str | Path] = (),
        upload_from: Iterable[str | Path] = (),
        tags: Mapping[str, str] | None = None,
        engine_parameters: Mapping[str, str] | None = None,
        workflow_type: str = "CWL",
        version: str | None = None,
        engine: str | None = None,
        engine_version: str | None = None,
    ) -> str:
        """Submit a workflow, with all local files that it and its parameters need.

        Args:
            workflow: a local path (``wf.cwl``, ``packed.cwl#main``) or a URL.
            params: the input object, or the path of a YAML or JSON file that holds it. Files in it are
                relative to that file, or to the working directory.
            attachments: more local files to upload, under their base names.
            upload_from: folders from which files that the workflow itself names may be uploaded, beside its
                project (its folder, or the git work tree that this is in).
            tags: kept with the run, and filtered by in :meth:`runs`.
            engine_parameters: ``workflow_engine_parameters``.
            workflow_type: of the workflow; only for CWL is the workflow read to find what it refers to.
            version: of the workflow language; default: what the workflow says.
            engine: ``workflow_engine``; some services must be told.
            engine_version: of it.

        Returns:
            The run's id.

        Raises:
            wes_bridge.bundle.BundleError: the workflow or its parameters name files that are not there,
                or cannot be read, or the workflow names files outside its project.
        """
        from wes_bridge.bundle import make_bundle, plain_bundle  # noqa: PLC0415 - YAML only when needed

        def pack(shared: bool) -> Bundle:
            if workflow_type.upper() == "CWL":
                return make_bundle(
                    workflow, params, shared=shared, extra=attachments, upload_from=upload_from
                )
            return plain_bundle(workflow, params, extra=attachments)

        return self.submit_packed(
            pack,
            tags=tags,
            engine_parameters=engine_parameters,
            workflow_type=workflow_type,
            version=version,
            engine=engine,
            engine_version=engine_version,
        )

    def submit_packed(self, pack: Callable[[bool], Bundle], **options: Any) -> str:
        """Submit what ``pack(shared)`` packs; ``shared`` tells whether the service reads local files.

        A service that says it does and then refuses the paths is given the files themselves.
        ``options`` are those of :meth:`submit_bundle`.
        """
        if not self.shares_files():
            return self.submit_bundle(pack(False), **options)
        try:
            return self.submit_bundle(pack(True), **options)
        except WESError as error:
            if error.status_code not in (400, 403):
                raise
            return self.submit_bundle(pack(False), **options)

    def submit_bundle(
        self,
        bundle: Bundle,
        *,
        tags: Mapping[str, str] | None = None,
        engine_parameters: Mapping[str, str] | None = None,
        workflow_type: str = "CWL",
        version: str | None = None,
        engine: str | None = None,
        engine_version: str | None = None,
    ) -> str:
        """Submit a :class:`~wes_bridge.bundle.Bundle`; see :meth:`submit`. Returns the run's id."""
        body = _run_request(bundle, tags, engine_parameters, (workflow_type, version, engine, engine_version))
        answer = self._post("/runs", body)
        run_id = answer.get("run_id")
        if not isinstance(run_id, str) or not run_id:
            raise WESError(f"{self.url}/runs did not answer with a run_id")
        return run_id

    def _post(self, path: str, body: Multipart, timeout: float | None = None) -> dict[str, Any]:
        headers = {"Content-Type": body.content_type}
        try:
            return self._ready().json("POST", path, data=body, headers=headers, read_timeout=timeout)
        except OSError as error:
            raise WESError(f"cannot upload: {error}") from error

    def plan(
        self,
        workflow: str | Path,
        params: Mapping[str, Any] | str | Path | None = None,
        *,
        engine_parameters: Mapping[str, str] | None = None,
        upload_from: Iterable[str | Path] = (),
        timeout: float = PLAN_TIMEOUT,
    ) -> dict[str, Any]:
        """What a run would do and take, without running it (wes-bridge's addition, ``RunPlan``).

        Args:
            workflow: see :meth:`submit`.
            params: see :meth:`submit`.
            engine_parameters: ``workflow_engine_parameters``.
            upload_from: see :meth:`submit`.
            timeout: seconds to wait for the answer.

        Raises:
            WESError: the workflow or its inputs are not valid (status code 400), or the service cannot plan.
        """
        from wes_bridge.bundle import make_bundle  # noqa: PLC0415 - YAML only when needed

        return self.plan_packed(
            lambda shared: make_bundle(workflow, params, shared=shared, upload_from=upload_from),
            engine_parameters=engine_parameters,
            timeout=timeout,
        )

    def plan_packed(
        self,
        pack: Callable[[bool], Bundle],
        *,
        engine_parameters: Mapping[str, str] | None = None,
        timeout: float = PLAN_TIMEOUT,
    ) -> dict[str, Any]:
        """Plan what ``pack(shared)`` packs; see :meth:`plan` and :meth:`submit_packed`."""

        def ask(shared: bool) -> dict[str, Any]:
            body = _run_request(pack(shared), None, engine_parameters, ("CWL", None, None, None))
            return self._post("/runs/plan", body, timeout)

        try:
            return ask(self.shares_files())
        except WESError as error:
            if error.status_code in (404, 405):
                raise WESError(f"{self.url} cannot plan: it is not a wes-bridge, or too old", 404) from error
            raise

    def runs(
        self, *, page_size: int | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        """Runs, newest first, page by page (``RunSummary`` or ``RunStatus``).

        Args:
            page_size: of one request.
            limit: how many at most.
            filters: wes-bridge's: ``state`` (one or a list), ``tag`` (``"key=value"``, one or a list, or
                a dict), ``workflow_name``. Other servers ignore them.
        """
        if isinstance(filters.get("tag"), Mapping):
            filters["tag"] = [f"{key}={value}" for key, value in filters["tag"].items()]
        if page_size is None and limit is not None:
            page_size = min(limit, 100)
        yield from self._pages("/runs", ("runs", "workflows"), page_size, limit, filters)

    def run(self, run_id: str) -> dict[str, Any]:
        """All about a run (``RunLog``)."""
        return self._ready().json("GET", _run_path(run_id))

    def status(self, run_id: str) -> str:
        """A run's state."""
        return str(self._ready().json("GET", _run_path(run_id) + "/status").get("state", "UNKNOWN"))

    def tasks(self, run_id: str, *, page_size: int | None = None) -> Iterator[dict[str, Any]]:
        """The tasks of a run (``TaskLog``), in the order they were found, page by page."""
        yield from self._pages(_run_path(run_id) + "/tasks", ("task_logs",), page_size, None, {})

    def task(self, run_id: str, task_id: str) -> dict[str, Any]:
        """One task of a run (``TaskLog``)."""
        return self._ready().json("GET", f"{_run_path(run_id)}/tasks/{quote(task_id, safe='')}")

    def cancel(self, run_id: str) -> None:
        """Ask the service to stop a run; it ends in state CANCELED, unless it had already ended."""
        self._ready().again("POST", _run_path(run_id) + "/cancel")

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended, with its files (wes-bridge's addition)."""
        self._ready().send("DELETE", _run_path(run_id)).close()

    def events(self, run_id: str, *, tasks: bool = True) -> Iterator[dict[str, Any]]:
        """What happens to a run, as it happens, until it has ended (wes-bridge's addition).

        First come the run and its tasks as they are. A connection that breaks is made anew.

        Args:
            run_id: of the run.
            tasks: ``False``: only the run's own changes.

        Yields:
            ``{"event": "run", "run_id", "state", ...}`` and
            ``{"event": "task", "id", "name", "state", "node", "exit_code", ...}``; unknown fields are left
            out. The last one is the run in a final state.

        Raises:
            WESError: there is no such run, or the service has no events.
        """
        from wes_bridge.client.events import follow  # noqa: PLC0415

        for batch in follow(self._ready(), _run_path(run_id), tasks=tasks):
            yield from batch

    def has_events(self) -> bool:
        """Whether the service says that it has :meth:`events`."""
        info = self._info or self.service_info()
        return EVENTS_TAG in (info.get("tags") or {})

    def rerun(
        self,
        run_id: str,
        *,
        again: str | Iterable[str] = (),
        inputs: Mapping[str, Any] | None = None,
        resources: Mapping[str, Mapping[str, Any]] | None = None,
        containers: str | None = None,
    ) -> str:
        """Do a run that has ended again, without the steps that ended well (wes-bridge's addition).

        Args:
            run_id: of the run.
            again: names of steps to be run in any case: ``measure[3]``, or ``measure`` for all of a scatter.
            inputs: values that replace those of the same name; files only by URL.
            resources: by name of a step: ``{"fit": {"ram": "8GiB", "cores": 4}}``.
            containers: ``required``, ``preferred`` or ``never``; as the old run when not given.

        Returns:
            The new run's id.
        """
        steps = [again] if isinstance(again, str) else list(again)
        wanted: dict[str, Any] = {"from": steps, "inputs": dict(inputs or {}), "resources": resources or {}}
        wanted["containers"] = containers
        body = json.dumps({name: value for name, value in wanted.items() if value}, ensure_ascii=False)
        headers = {"Content-Type": "application/json"}
        answer = self._ready().json("POST", _run_path(run_id) + "/rerun", data=body.encode(), headers=headers)
        return str(answer["run_id"])

    def wait(self, run_id: str, *, timeout: float | None = None, on_progress: Follow | None = None) -> str:
        """Wait until a run has ended.

        Asks often at first (every 5 ms), then after each tenth of the time waited, at last every 2 s; after
        the first half second a service that has events is listened to instead.

        Args:
            run_id: of the run.
            timeout: seconds; ``None``: as long as it takes.
            on_progress: called with ``{"run_id", "state", "elapsed"}`` after each poll; where events are
                listened to with ``"tasks"`` too, an iterable of the tasks as :meth:`events` tells them.

        Returns:
            The final state.

        Raises:
            WaitTimeoutError: it has not ended in time.
        """
        start, listens = time.monotonic(), True
        while True:
            state = self.status(run_id)
            elapsed = time.monotonic() - start
            if on_progress:
                on_progress({"run_id": run_id, "state": state, "elapsed": elapsed})
            if state in FINAL_STATES:
                return state
            if timeout is not None and elapsed >= timeout:
                raise WaitTimeoutError(f"run {run_id} is still {state} after {timeout:g} s")
            if listens and elapsed >= LISTEN_AFTER and self.has_events():
                listens = False  # should that fail, the run is asked for
                if self._listen(run_id, start, timeout, on_progress):
                    continue
            time.sleep(poll_delay(elapsed, timeout))

    def _listen(self, run_id: str, start: float, timeout: float | None, on_progress: Follow | None) -> bool:
        """Follow the events until the run has ended; false when they fail, or the time is nearly over."""
        from wes_bridge.client.events import QUIET, follow  # noqa: PLC0415

        state = ""
        known: dict[str, dict[str, Any]] = {}
        batches = follow(self._ready(), _run_path(run_id), tasks=on_progress is not None)
        with contextlib.suppress(WESError), contextlib.closing(batches):
            while timeout is None or time.monotonic() - start < timeout - QUIET:
                batch = next(batches, None)
                if batch is None:
                    break
                for event in batch:
                    if event["event"] == "run":
                        state = str(event["state"])
                    else:
                        known[event["id"]] = event
                if on_progress and batch and state not in FINAL_STATES:
                    elapsed = time.monotonic() - start
                    on_progress(
                        {"run_id": run_id, "state": state, "elapsed": elapsed, "tasks": known.values()}
                    )
        return state in FINAL_STATES

    # --- logs and outputs

    def log(
        self,
        run_id: str,
        name: Literal["stdout", "stderr"] = "stderr",
        task: str | None = None,
        *,
        follow: bool = False,
    ) -> Iterator[bytes]:
        """The log of a run, or of one of its tasks, as it comes.

        Args:
            run_id: of the run.
            name: which stream.
            task: id of the task; ``None``: the run's own log.
            follow: go on until the run has ended (needs a server with range requests).
        """
        from wes_bridge.client.logs import read_log  # noqa: PLC0415

        yield from read_log(self, self._ready(), run_id, name=name, task=task, follow=follow)

    def log_tail(
        self,
        run_id: str,
        name: Literal["stdout", "stderr"] = "stderr",
        task: str | None = None,
        *,
        size: int = 4096,
    ) -> bytes:
        """The last ``size`` bytes of a log; see :meth:`log`."""
        from wes_bridge.client.logs import read_tail  # noqa: PLC0415

        return read_tail(self, self._ready(), run_id, name=name, task=task, size=size)

    def outputs(self, run_id: str) -> dict[str, Any]:
        """The output object of a run as the service gives it; locations are URLs."""
        outputs = self.run(run_id).get("outputs")
        return outputs if isinstance(outputs, dict) else {}

    def download(
        self, run_id: str, directory: str | Path, *, outputs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Fetch a run's outputs into ``directory`` (made if missing).

        Args:
            run_id: of the run.
            directory: files are called by their base names, with secondary files beside their primary; of
                two of one name the second goes into the folder ``2`` in ``directory``, with its own name.
            outputs: the output object when it is at hand, else it is asked for.

        Returns:
            The output object with ``location`` a file:// URL and ``path`` the local path.

        Raises:
            DownloadError: a file came incomplete or changed, or the service named it so that it would
                land outside ``directory``.
        """
        from wes_bridge.client.outputs import download_outputs  # noqa: PLC0415

        if outputs is None:
            outputs = self.outputs(run_id)
        return download_outputs(self._ready(), outputs, Path(directory))

    def _pages(
        self,
        path: str,
        keys: tuple[str, ...],
        page_size: int | None,
        limit: int | None,
        filters: Mapping[str, Any],
    ) -> Iterator[dict[str, Any]]:
        query = [(key, str(value)) for key, values in filters.items() for value in _listed(values)]
        if page_size is not None:
            query.append(("page_size", str(page_size)))
        token, count = "", 0
        while True:
            page = self._ready().json("GET", path, params=query + ([("page_token", token)] if token else []))
            items: list[dict[str, Any]] = next((page[key] for key in keys if page.get(key)), [])
            for item in items:
                if limit is not None and count >= limit:
                    return
                count += 1
                yield item
            last, token = token, page.get("next_page_token") or ""
            if not token or token == last or not items:
                return


def _run_request(
    bundle: Bundle,
    tags: Mapping[str, str] | None,
    engine_parameters: Mapping[str, str] | None,
    kind: tuple[str, str | None, str | None, str | None],
) -> Multipart:
    """The form of a submission; ``kind`` is the workflow's type and version, and the engine's."""
    workflow_type, version, engine, engine_version = kind
    fields = [
        ("workflow_params", json.dumps(bundle.params, ensure_ascii=False)),
        ("workflow_type", workflow_type),
        ("workflow_type_version", version or bundle.version or "v1.2"),
        ("workflow_url", bundle.workflow_url),
    ]
    if engine:
        fields.append(("workflow_engine", engine))
    if engine_version:
        fields.append(("workflow_engine_version", engine_version))
    if tags:
        fields.append(("tags", json.dumps(dict(tags))))
    if engine_parameters:
        fields.append(("workflow_engine_parameters", json.dumps(dict(engine_parameters))))
    files = [("workflow_attachment", item.name, item.content) for item in bundle.attachments]
    return Multipart(fields, files)


def poll_delay(elapsed: float, timeout: float | None = None) -> float:
    """Seconds to wait before asking again after ``elapsed`` seconds; never past ``timeout``."""
    delay = min(LAST_POLL, max(FIRST_POLL, elapsed * POLL_SHARE))
    return delay if timeout is None else max(0.0, min(delay, timeout - elapsed))


def _run_path(run_id: str) -> str:
    return "/runs/" + quote(run_id, safe="")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set) else [value]
