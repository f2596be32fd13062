"""``wes-bridge serve`` at work: the API in this process, nodes and engine workers as children.

Everything is started at once, since importing is what takes the time; the service is ready when all of it
is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import AnyHttpUrl

from wes_bridge.auth.private import VARIABLE, bearer, private_token
from wes_bridge.auth.safe import shared_secrets
from wes_bridge.auth.tokens import SERVICE_KEY, TOKEN, kept_secret
from wes_bridge.cli.children import Child, ChildError
from wes_bridge.cli.early import WORKER, Early
from wes_bridge.cli.ports import base_url, keep_ports, listener, server_url
from wes_bridge.config import AggregatorConfig, BrokerConfig, CredentialsConfig, NodeConfig, ServiceConfig
from wes_bridge.data.handing_out import signed_urls
from wes_bridge.model.access import ServiceKeyConfig
from wes_bridge.open_files import allow_many
from wes_bridge.private_files import private_file, private_folder
from wes_bridge.redaction import redact_logs
from wes_bridge.start import importing

_logger = logging.getLogger("wes_bridge.serve")
_Part = TypeVar("_Part", AggregatorConfig, NodeConfig)
API = "/ga4gh/wes/v1"
WARM_UP = 20.0
"""Seconds the first request may take."""


class ServeError(Exception):
    """The service cannot be started; the text says why and what to do."""


@dataclass(frozen=True)
class Options:
    """How to run, beside the configuration.

    Attributes:
        throw_away: a private service: nodes end their sessions, and its state folder is removed at the end.
        exit_with_parent: end when standard input does.
        on_ready: called with the base URL (no path) once everything is ready.
        early: an engine worker that was begun before.
    """

    throw_away: bool = False
    exit_with_parent: bool = False
    on_ready: Callable[[str], None] = lambda _url: None
    early: Early | None = None


def serve(config: ServiceConfig, options: Options) -> None:
    """Run the service until SIGINT or SIGTERM.

    Raises:
        ServeError: it cannot be started.
    """
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    redact_logs()
    quiet = ("httpx", "httpcore", "asyncio", "connexion", "uvicorn")
    for noisy in quiet if config.log_level != "debug" else quiet[:-1]:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    run: Callable[[Any], None] = asyncio.run
    if importlib.util.find_spec("uvloop"):
        import uvloop  # noqa: PLC0415

        run = uvloop.run
    run(_serve(config, options))


async def _serve(config: ServiceConfig, options: Options) -> None:
    stopping = _stop_signals(options.exit_with_parent)
    async with AsyncExitStack() as stack:
        _make_folder(config.state_dir)
        if options.throw_away:
            stack.callback(shutil.rmtree, config.state_dir, ignore_errors=True)
        lock = stack.enter_context(_locked(config.state_dir))
        sock = stack.enter_context(_listen(config))
        config = complete(config, sock.getsockname()[1])
        children = [node_child(node, config, options.throw_away) for node in config.nodes]
        if config.aggregator is not None:
            children.append(_aggregator(config.aggregator, config.state_dir, config.one_cpu))
        for number in range(1, config.engine.workers + 1):
            children.append(_worker(number, config, options.early if number == 1 else None))
        if options.early is not None and not config.engine.workers:
            options.early.close()
        for child in children:
            stack.push_async_callback(child.stop)
        # Stopping one after the other would add up their times.
        stack.push_async_callback(_stop_all, children)
        ready = asyncio.gather(*(child.ready() for child in children))
        stack.callback(ready.cancel)
        await asyncio.sleep(0.01)  # the children are on their way before this process imports anything
        closing = asyncio.Event()
        server = _make_server(config, stack, closing)
        await _first(stopping, _ready(server, sock, ready, stack, config, closing=closing))
        url = server_url(config, config.port)
        if not stopping.done():
            lock.write(f"{os.getpid()} {url}\n")
            lock.flush()
            options.on_ready(str(config.public_url or url).rstrip("/"))
        await stopping
        _logger.info("stopping: %s", stopping.result())


async def _first(stopping: asyncio.Future[str], start: Coroutine[Any, Any, None]) -> None:
    """Wait for the start, or for being told to stop before it."""
    starting = asyncio.create_task(start)
    either: set[asyncio.Future[Any]] = {stopping, starting}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    try:
        starting.result()
    except ChildError as error:
        raise ServeError(f"{error}; what it said is above") from error


async def _stop_all(children: list[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children), return_exceptions=True)


def _stop_signals(exit_with_parent: bool) -> asyncio.Future[str]:
    """A future that says why to stop, once there is a reason."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[str] = loop.create_future()

    def stop(reason: str) -> None:
        if not stopping.done():
            stopping.set_result(reason)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number.name)
    if exit_with_parent:

        def on_input() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                stop("the parent process is gone")

        with contextlib.suppress(OSError):
            loop.add_reader(0, on_input)
    return stopping


def _make_folder(path: Path) -> None:
    try:
        private_folder(path)
    except OSError as error:
        raise ServeError(f"cannot make the state folder {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(state_dir: Path) -> Any:
    """One service a state folder: two would hand the same port and sockets to their nodes."""
    path = state_dir / "serve.lock"
    private_file(path)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise ServeError(
                f"another wes-bridge ({who}) uses {state_dir.absolute()}: stop it, or give this one"
                " its own folder with --state"
            ) from error
        file.truncate(0)
        yield file


def _listen(config: ServiceConfig) -> socket.socket:
    try:
        sock = listener(config.host, config.port)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror or error};"
            " choose another with --port (0: any free one)"
        ) from error
    return sock


def complete(config: ServiceConfig, port: int) -> ServiceConfig:
    """The configuration with what is only known now: ports, folders, and the nodes as brokers."""
    state = config.state_dir.absolute()
    nodes = [
        node.model_copy(
            update={
                "state_dir": (node.state_dir or state / "nodes" / node.name).absolute(),
                "many_users": node.many_users or config.serves_others is not None,
            }
        )
        for node in keep_ports(config.nodes, state)
    ]
    secret = CredentialsConfig(env=VARIABLE)
    if not private_token():
        kept_secret(state / SERVICE_KEY)
        secret = CredentialsConfig(file=state / SERVICE_KEY)
        nodes = [_for_us(node, state) for node in nodes]
    brokers = [
        BrokerConfig(
            name=node.name,
            url=node.public_url or AnyHttpUrl(server_url(node, node.port)),
            holds=["file:///"],
            labels={"embedded": "yes"},
            credentials=secret,
        )
        for node in nodes
    ]
    brokers += config.brokers
    aggregator = config.aggregator
    if aggregator is not None:
        aggregator = _complete_aggregator(aggregator, brokers, state, {node.port for node in nodes})
        if not private_token():
            aggregator = _for_us(aggregator, state)
        url = AnyHttpUrl(server_url(aggregator, aggregator.port))
        itself = BrokerConfig(name=aggregator.name, url=url, credentials=secret)
        brokers = [*brokers, itself] if config.aggregator and config.aggregator.brokers else [itself]
    return config.model_copy(
        update={
            "port": port,
            "state_dir": state,
            "nodes": nodes,
            "brokers": brokers,
            "aggregator": aggregator,
        }
    )


def _for_us(config: _Part, state: Path) -> _Part:
    """A part of the service that lets the service in."""
    key = ServiceKeyConfig(name="service", file=state / SERVICE_KEY)
    access = config.authentication.model_copy(update={"services": [*config.authentication.services, key]})
    return config.model_copy(update={"authentication": access})


def _complete_aggregator(
    config: AggregatorConfig, brokers: list[BrokerConfig], state: Path, ports: set[int]
) -> AggregatorConfig:
    """The aggregator with its port and folder; with no brokers of its own it stands before all of ours."""
    (kept,) = keep_ports([config], state, "aggregator-port.json", ports)
    folder = (config.state_dir or state / "aggregator").absolute()
    return kept.model_copy(update={"state_dir": folder, "brokers": config.brokers or brokers})


def _aggregator(config: AggregatorConfig, state: Path, one_cpu: bool) -> Child:
    config = config.model_copy(update={"one_cpu": config.one_cpu and one_cpu})
    path = _private_file(state / "aggregator.json", config.model_dump_json())
    arguments = ["--config-json", f"@{path}", "--exit-with-parent"]
    ready = f"wes-bridge aggregator {config.name} is ready"
    return Child(f"aggregator {config.name}", "wes_bridge.aggregator.main", arguments, ready)


def node_child(node: NodeConfig, config: ServiceConfig, end_sessions: bool) -> Child:
    """Start an embedded node."""
    ours = {"one_cpu": node.one_cpu and config.one_cpu, "fetch": node.fetch or config.fetch.for_nodes}
    settings = node.model_copy(update=ours).model_dump_json()
    arguments = ["--config-json", settings, "--exit-with-parent"]
    if end_sessions:
        arguments.append("--end-sessions-on-exit")
    ready = f"wes-bridge node {node.name} is ready"
    return Child(f"node {node.name}", "wes_bridge.node.main", arguments, ready)


def _worker(number: int, config: ServiceConfig, early: Early | None) -> Child:
    path = _private_file(config.state_dir / "worker.json", config.model_dump_json())
    arguments = ["--config-json", f"@{path}", "--exit-with-parent"]
    return Child(f"worker {number}", WORKER, arguments, "worker ready", early)


def _private_file(path: Path, text: str) -> Path:
    """Where a child reads its configuration: the command line, with passwords in it, all users can read."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    return new.replace(path)


async def _ready(
    server: Any,
    sock: socket.socket,
    children: asyncio.Future[Any],
    stack: AsyncExitStack,
    config: ServiceConfig,
    *,
    closing: asyncio.Event,
) -> None:
    """Let callers in once the children are ready: a run submitted before would find no node."""
    await children
    sock.listen(2048)
    task = asyncio.create_task(server.serve(sockets=[sock]), name="api")

    async def stop() -> None:
        closing.set()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
    if config.tls is not None:
        from wes_bridge.surface.tls import keep_certificate  # noqa: PLC0415

        renewing = asyncio.create_task(keep_certificate(server.config.ssl, config.tls))
        stack.callback(renewing.cancel)
    await _warm(config)


def _make_server(config: ServiceConfig, stack: AsyncExitStack, closing: asyncio.Event) -> Any:
    """Import and make the API; what it holds open is closed with the stack."""
    allow_many()
    started = time.monotonic()
    warnings.filterwarnings("ignore", message=".*starlette.testclient.*")  # connexion imports it, unused
    with importing():
        import uvicorn  # noqa: PLC0415

        from wes_bridge.auth.door import Served, guarded  # noqa: PLC0415
        from wes_bridge.plugging import PluginError  # noqa: PLC0415
        from wes_bridge.store.database import Database, NewerDatabaseError, cannot_open  # noqa: PLC0415
        from wes_bridge.store.outage import tell_once  # noqa: PLC0415
        from wes_bridge.store.tables import SERVICE  # noqa: PLC0415
        from wes_bridge.store.wakeup import Waker  # noqa: PLC0415
        from wes_bridge.surface.audit import audited  # noqa: PLC0415
        from wes_bridge.surface.patient import PatientProtocol  # noqa: PLC0415
        from wes_bridge.surface.tls import TlsError, TlsServer, encrypt  # noqa: PLC0415
        from wes_bridge.wes.app import create_app, routes  # noqa: PLC0415

    tell_once()
    _logger.debug("imported the API in %.2f s", time.monotonic() - started)
    try:
        database = Database(config.database_url, SERVICE)
    except NewerDatabaseError as error:
        raise ServeError(cannot_open(error)) from error
    except Exception as error:
        raise ServeError(f"{cannot_open(error)}; start it, or name another with --database") from error
    stack.callback(database.close)
    waker = Waker(config.wakeup_dir)
    stack.callback(waker.close)
    app = create_app(config, database, waker.wake, closing)
    public = str(config.public_url) if config.public_url else None
    signed = signed_urls(config.state_dir, public, shared_secrets(config.delegation.key, config.state_dir))
    served = Served(app, config.state_dir, config.name, f"{API}/service-info", routes(), signed)
    try:
        door = audited(guarded(config, served), config.audit, config.state_dir, "wes")
    except (OSError, PluginError) as error:
        raise ServeError(f"the service cannot see who calls: {error}") from error
    server_config = uvicorn.Config(
        door,
        log_config=None,
        access_log=config.log_level == "debug",
        http=PatientProtocol,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=65,
        proxy_headers=True,
        forwarded_allow_ips=config.trusted_proxies,
    )
    if config.tls is not None:
        try:
            encrypt(server_config, config.tls)
        except TlsError as error:
            raise ServeError(f"tls: {error}") from error
    server = TlsServer(server_config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # they are ours
    return server


async def _warm(config: ServiceConfig) -> None:
    """Wait for the API's first answer: after this no caller pays for what is made on first use."""
    if config.tls is not None and config.tls.client_ca is not None:
        return  # we have no certificate of a client
    port, token = config.port, private_token() or kept_secret(config.state_dir / TOKEN)
    address = base_url(config.host, port).removeprefix("http://").rpartition(":")[0].strip("[]")
    request = f"GET {API}/service-info HTTP/1.0\r\nAuthorization: {bearer(token)}\r\n\r\n".encode()
    deadline = time.monotonic() + WARM_UP
    while True:
        try:
            reader, writer = await asyncio.open_connection(address, port, ssl=_to_ourselves(config))
            writer.write(request)
            status = await reader.readline()
            await reader.read()
            writer.close()
            if b" 200 " in status:
                return
            problem = status.decode(errors="replace").strip() or "no answer"
        except OSError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise ServeError(f"the API does not answer: {problem}")
        await asyncio.sleep(0.05)


def _to_ourselves(config: ServiceConfig) -> ssl.SSLContext | None:
    """For a connection to our own socket, whose certificate has another name."""
    if config.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def announce(name: str, out: TextIO = sys.stdout, hints: TextIO | None = sys.stderr) -> Callable[[str], None]:
    """What to say when the service is ready: one line for programs, a few for people."""

    def on_ready(url: str) -> None:
        if hints is not None:
            hints.write(
                f"\n  {name}\n"
                f"    page       {url}/\n"
                f"    API        {url}{API}\n"
                f"    try it     {url}{API}/ui/\n"
                f"    submit     wes-bridge run --wes {url} WORKFLOW.cwl JOB.yml\n"
                f"    or         wes-bridge-runner --wes {url} WORKFLOW.cwl JOB.yml\n"
                "    stop       Ctrl-C\n\n"
            )
            hints.flush()
        out.write(f"wes-bridge is ready at {url}\n")
        out.flush()

    return on_ready
