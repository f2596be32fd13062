"""From configuration to the ways by which bytes go to and from nodes that share no disk with the service."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from urllib.parse import urlsplit

from wes_bridge.auth.safe import shared_secrets
from wes_bridge.config import ServiceConfig
from wes_bridge.data.handing_out import HandingOut, signed_urls
from wes_bridge.data.parcels import Parcels, ParcelUrls
from wes_bridge.data.receiving import Receiving
from wes_bridge.federation.allowance import Allowance
from wes_bridge.federation.apart import NotServedYetError, Ways
from wes_bridge.federation.bringing import Bringing
from wes_bridge.federation.replicas import Replicas
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.model.units import GIB

SERVED = "serve.lock"
"""File in the service's state folder that says at which URL it answers."""


def ways_of(config: ServiceConfig, threads: Executor, bringing_threads: Executor) -> Ways:
    """How bytes go to and from them.

    Args:
        config: of the service; a broker that it names may be at a private address.
        threads: in which the outcomes of sessions are fetched.
        bringing_threads: in which outputs are fetched that were left at nodes.
    """
    state = config.state_dir.absolute()
    public = str(config.public_url) if config.public_url else None
    signed = signed_urls(state, public, shared_secrets(config.delegation.key, state))

    def base() -> str:
        return public or served_at(state)

    handing = HandingOut(signed, base)
    fetch = config.fetch
    engine = config.engine
    limits = Limits(fetch.timeout, deadline=None, least_rate=fetch.least_rate, max_bytes=None)
    named = [_place_of(str(broker.url)) for broker in config.brokers]
    named += [host for broker in config.brokers for host in broker.hosts]  # nodes behind an aggregator
    guard = Guard(PrivateHosts([*fetch.private_hosts, *named]))
    receiving = Receiving(Fetcher(guard, limits, ca_file=fetch.ca_file))
    most = None if engine.bring_gib is None else int(engine.bring_gib * GIB)
    allowance = Allowance(config.workspace_dir, most)
    bringing = Bringing(
        Replicas(), receiving, threads, bringing_threads, patience=engine.lost_after, allowance=allowance
    )
    parcels, urls = Parcels(state), ParcelUrls(signed, base)
    return Ways(handing, receiving, threads, parcels, urls, bringing, engine.bring_at_once)


def served_at(state: Path) -> str:
    """Where the service answers, as nodes on this machine call it.

    Raises:
        NotServedYetError: it is being started.
        OSError: it does not say.
    """
    words = (state / SERVED).read_text(encoding="utf-8").split()
    if len(words) < 2:
        raise NotServedYetError("the service is being started, and does not say yet where it answers")
    return words[1]


def _place_of(url: str) -> str:
    """Host and port, as :class:`PrivateHosts` wants them."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
