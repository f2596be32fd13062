"""``wes-bridge check`` at work: the brokers of a service that runs, as its workers know them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from wes_bridge.config import ServiceConfig
from wes_bridge.engine.seeing import Looking, Seen
from wes_bridge.federation.brokers import make_broker
from wes_bridge.federation.client import http_session
from wes_bridge.federation.strangers import Strangers
from wes_bridge.federation.ways import served_at, ways_of

OF_WORKERS = "worker.json"
"""What ``serve`` writes for its workers: with the addresses of embedded nodes."""


class CheckError(Exception):
    """Nothing can be tried; the text says why."""


async def tried(config: ServiceConfig) -> list[Seen]:
    """Try all brokers of a service.

    Args:
        config: as the files and flags say; where the service runs, its workers know more.

    Raises:
        CheckError: it cannot be done.
    """
    config = await asyncio.to_thread(_as_workers_know, config)
    base = await asyncio.to_thread(_base, config)
    workspace = config.workspace_dir
    if not workspace.is_dir():
        raise CheckError(f"the workspace {workspace} is not there: start the service, or name its folder")
    looking = Looking(workspace.resolve(), base)
    with ThreadPoolExecutor(4, thread_name_prefix="check") as threads:
        async with http_session(Strangers(config).resolver()) as http:
            ways, image = ways_of(config, threads, threads), config.engine.default_image
            brokers = [
                make_broker(broker, http, broker.credentials, image, ways) for broker in config.brokers
            ]
            try:
                found = await asyncio.gather(*(looking.look(broker) for broker in brokers))
            except OSError as error:
                why = f"{error.strerror or error}: {error.filename or workspace}"
                raise CheckError(f"{why}; run this as the service's user") from error
    return [seen for some in found for seen in some]


def _as_workers_know(config: ServiceConfig) -> ServiceConfig:
    """The configuration of the workers that run, and the brokers that they do not know."""
    path = config.state_dir / OF_WORKERS
    try:
        known = ServiceConfig.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return config
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is of another version"
        raise CheckError(f"{path} cannot be read ({why}); run this as the service's user") from error
    urls = {str(broker.url) for broker in known.brokers}
    more = [broker for broker in config.brokers if str(broker.url) not in urls]
    return known.model_copy(update={"brokers": [*known.brokers, *more]})


def _base(config: ServiceConfig) -> str | None:
    if config.public_url is not None:
        return str(config.public_url)
    try:
        return served_at(Path(config.state_dir).absolute())
    except OSError:
        return None
