"""``wes-bridge worker`` at work: what a worker must find where no ``serve`` has prepared it."""

from __future__ import annotations

import os

from pydantic import AnyHttpUrl
from sqlalchemy.exc import SQLAlchemyError

from wes_bridge.cli.ports import server_url
from wes_bridge.config import BrokerConfig, CredentialsConfig, NodeConfig, ServiceConfig
from wes_bridge.start import importing
from wes_bridge.store.database import Database, NewerDatabaseError, cannot_open
from wes_bridge.store.tables import SERVICE


class LoneWorkerError(Exception):
    """The worker cannot be started; the text says why and what to do."""


def work(config: ServiceConfig) -> None:
    """Work in this process until told to stop.

    Raises:
        LoneWorkerError: something is missing.
    """
    _check_workspace(config)
    _check_database(config)
    brokers = [_broker(node) for node in config.nodes if _is_said(node)] + config.brokers
    aggregator = config.aggregator
    if aggregator is not None and aggregator.port:
        url = aggregator.public_url or AnyHttpUrl(server_url(aggregator, aggregator.port))
        itself = BrokerConfig(name=aggregator.name, url=url)
        brokers = [*brokers, itself] if aggregator.brokers else [itself]
    if not brokers and not config.listings:
        raise LoneWorkerError(
            "there is no node to ask: give brokers in the file, or --broker NAME=URL; a node under nodes"
            " counts only with a port or a public_url, since this command starts none"
        )
    with importing():
        from wes_bridge.engine.worker import run  # noqa: PLC0415

    run(config.model_copy(update={"brokers": brokers, "state_dir": config.state_dir.absolute()}))


def _is_said(node: NodeConfig) -> bool:
    return bool(node.port or node.public_url)


def _broker(node: NodeConfig) -> BrokerConfig:
    """A node that ``serve`` starts, by the address and the secret the file gives it.

    On the node's own machine none is needed: it is the same user who asks.
    """
    services = node.authentication.services
    secret = CredentialsConfig(file=services[0].file) if services else None
    url = node.public_url or AnyHttpUrl(server_url(node, node.port))
    return BrokerConfig(
        name=node.name, url=url, holds=["file:///"], labels={"embedded": "yes"}, credentials=secret
    )


def _check_workspace(config: ServiceConfig) -> None:
    folder = config.workspace_dir
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        problem = "cannot be written" if folder.exists() else "is not there"
        raise LoneWorkerError(
            f"the workspace {folder} {problem}: a worker needs the service's, at the same path;"
            " name it with --workspace, and start the service first"
        )


def _check_database(config: ServiceConfig) -> None:
    try:
        Database(config.database_url, SERVICE).close()
    except NewerDatabaseError as error:
        raise LoneWorkerError(cannot_open(error)) from error
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise LoneWorkerError(f"{cannot_open(error)}; name the service's with --database") from error
