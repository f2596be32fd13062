"""The three nodes of the demonstration: what they promise, what they ask for it, and how they are booked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import AnyHttpUrl

from wes_bridge.auth.private import VARIABLE
from wes_bridge.config import (
    BookingConfig,
    BrokerConfig,
    CredentialsConfig,
    EngineConfig,
    FetchConfig,
    NodeConfig,
    Quotes,
    Range,
    ServiceConfig,
)

SLOT = timedelta(minutes=1)
BOOKING = timedelta(minutes=2)
"""Length of a booking for steps without a time limit."""
LOST_AFTER = 2.0
"""Seconds of silence after which a session is taken for lost: short, since somebody is watching."""

_Bounds = tuple[float, float]


@dataclass(frozen=True)
class DemoNode:
    """A node and what is to be said of it in a few words."""

    config: NodeConfig
    words: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name


def demo_nodes() -> list[DemoNode]:
    """alpha, beta and gamma, all on this machine: they differ in what they quote and how much they take."""
    return [
        DemoNode(
            _node("alpha", 4, 30, _quotes((6.0, 9.0), (0.02, 0.04), (2, 8), (250, 300))),
            "fast, green, dear",
        ),
        DemoNode(
            _node("beta", 3, 30, _quotes((1.5, 3.0), (0.10, 0.20), (30, 60), (120, 160))),
            "cheap cloud",
        ),
        DemoNode(
            _node("gamma", 1, 8, _quotes((0.3, 0.6), (0.30, 0.50), (90, 150), (40, 60))),
            "budget, soon booked up",
        ),
    ]


def _node(name: str, cores: int, minutes_ahead: int, quotes: Quotes) -> NodeConfig:
    horizon = timedelta(minutes=minutes_ahead)
    return NodeConfig(
        name=name,
        platforms=["process"],
        cores=cores,
        memory_gib=4,
        booking=BookingConfig(mode="slots", slot=SLOT, horizon=horizon, default_duration=BOOKING),
        quotes=quotes,
    )


def _quotes(money: _Bounds, energy: _Bounds, carbon: _Bounds, speed: _Bounds) -> Quotes:
    return Quotes(
        monetary=_range(money),
        energy=_range(energy),
        carbon=_range(carbon),
        compute_performance=_range(speed),
    )


def _range(bounds: _Bounds) -> Range:
    return Range(min=bounds[0], max=bounds[1])


def demo_service(urls: Mapping[str, str]) -> ServiceConfig:
    """A service with no node of its own, and these as its brokers.

    Args:
        urls: of the nodes, by name.
    """
    secret = CredentialsConfig(env=VARIABLE)
    return ServiceConfig(
        name="wes-bridge demo",
        log_level="warning",
        nodes=[],
        brokers=[
            BrokerConfig(name=name, url=AnyHttpUrl(url), holds=["file:///"], credentials=secret)
            for name, url in urls.items()
        ],
        fetch=FetchConfig(files=[Path("/")], private_hosts=["any"]),
        engine=EngineConfig(lost_after=LOST_AFTER, default_duration=BOOKING),
    )


def as_yaml(config: NodeConfig | ServiceConfig) -> str:
    """A configuration file with what was said and without what is usual."""
    data: Any = config.model_dump(mode="json", exclude_defaults=True)
    if isinstance(config, ServiceConfig):
        data["nodes"] = []
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
