"""TLS of our servers: the context made from the configuration, and kept up with files that are renewed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from wes_bridge.model.access import TlsConfig
from wes_bridge.surface.patience import Patience

_logger = logging.getLogger(__name__)
LOOK_AGAIN = 30.0
"""Seconds between looks at the certificate's files."""


class TlsError(Exception):
    """The certificate cannot be used; the text says why."""


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """The context of a server.

    Raises:
        TlsError: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, config)
    if config.client_ca is not None:
        try:
            context.load_verify_locations(config.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"client_ca {config.client_ca}: {_why(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def encrypt(server: uvicorn.Config, config: TlsConfig) -> None:
    """Let a server speak TLS.

    Raises:
        TlsError: see :func:`server_context`.
    """
    context = server_context(config)
    server.ssl_certfile, server.ssl_keyfile = str(config.certificate), str(config.key)
    server.load()
    server.ssl = context


class TlsServer(uvicorn.Server):
    """uvicorn that gives the beginning of TLS no longer than a first byte has without it.

    Attributes:
        handshake: seconds in which a connection must have agreed upon keys.
    """

    handshake: float = Patience.first

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        with _hurrying(asyncio.get_running_loop(), self.handshake):
            await super().startup(sockets)


@contextlib.contextmanager
def _hurrying(loop: asyncio.AbstractEventLoop, seconds: float) -> Iterator[None]:
    """Have servers that are made meanwhile wait no longer for TLS: uvicorn has no setting for it."""
    create = loop.create_server

    async def create_server(*arguments: Any, **settings: Any) -> asyncio.Server:
        if settings.get("ssl") is not None:
            settings["ssl_handshake_timeout"] = seconds
        return await create(*arguments, **settings)

    loop.create_server = create_server  # type: ignore[method-assign]
    try:
        yield
    finally:
        del loop.create_server  # the class's own shows again


async def keep_certificate(context: ssl.SSLContext, config: TlsConfig) -> None:
    """Take a renewed certificate up, for new connections; runs until it is cancelled."""
    seen = _version(config)
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        now = _version(config)
        if now == seen:
            continue
        try:
            _load(context, config)
        except TlsError as error:
            _logger.error("the renewed certificate is not taken, the old one stays: %s", error)
        else:
            _logger.info("the certificate %s was renewed", config.certificate)
        seen = now


def _load(context: ssl.SSLContext, config: TlsConfig) -> None:
    try:
        context.load_cert_chain(config.certificate, config.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"certificate {config.certificate}, key {config.key}: {_why(error)}") from error


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"they are no PEM files that belong together ({error.reason or error})"
    return error.strerror or str(error)


def _version(config: TlsConfig) -> tuple[object, ...]:
    found: list[object] = []
    for path in (config.certificate, config.key):
        try:
            status = os.stat(path)  # noqa: PTH116
            found.append((status.st_mtime_ns, status.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)
