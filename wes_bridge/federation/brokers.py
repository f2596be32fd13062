"""From configuration to brokers."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp

from wes_bridge.config import BrokerConfig, BrokerTraits, CredentialsConfig, ImageConfig
from wes_bridge.federation.apart import Apart, Ways
from wes_bridge.federation.client import Broker
from wes_bridge.federation.credentials import Credentials
from wes_bridge.federation.dialect import NATIVE, Dialect
from wes_bridge.federation.profile import Profile
from wes_bridge.federation.reference import Reference, Shared
from wes_bridge.federation.reference_apart import ReferenceApart
from wes_bridge.model.execution_broker import Image


def make_broker(
    traits: BrokerTraits,
    http: aiohttp.ClientSession,
    credentials: CredentialsConfig | None = None,
    default_image: str | None = None,
    ways: Ways | None = None,
) -> Broker:
    """A broker as configured or listed.

    Args:
        traits: what is known of it.
        http: shared by all brokers of a process.
        credentials: where its secret is; None: it wants none.
        default_image: for steps that name none, where only containers run.
        ways: how bytes go to and from nodes that share no disk with us.
    """
    secret = Credentials(credentials) if credentials is not None else None
    dialect = dialect_of(traits, default_image, ways)
    delegation = traits.delegation if isinstance(traits, BrokerConfig) else None  # no listing asks for tokens
    profile = profile_of(traits)
    broker = Broker(
        traits.name, str(traits.url), http, profile, secret, dialect=dialect, delegation=delegation
    )
    if isinstance(dialect, Apart):
        dialect.use(broker)
    return broker


def speak(broker: Broker, traits: BrokerTraits, ways: Ways | None = None) -> None:
    """Speak to a broker as it is listed now; what is remembered of a node that shares no disk stays."""
    dialect = dialect_of(traits, ways=ways)
    if isinstance(dialect, Apart):
        if isinstance(broker.dialect, Apart):
            return
        dialect.use(broker)
    broker.dialect = dialect


def profile_of(traits: BrokerTraits) -> Profile:
    """What a broker can do, as configured."""
    return Profile(
        data=_prefixes(traits.data),
        holds=tuple(traits.holds),
        images={name: _image(image) for name, image in traits.images.items()},
        registries=_prefixes(traits.registries),
        labels=dict(traits.labels),
        hosts=frozenset(traits.hosts),
        shares_files=traits.shares_files,
    )


def dialect_of(traits: BrokerTraits, default_image: str | None = None, ways: Ways | None = None) -> Dialect:
    """How a broker is spoken to.

    Which of our folders it shares with us is not a listing's to say: one that is only listed shares none, and
    steps say so.
    """
    if traits.dialect == "native":
        if ways is None or traits.shares_files:
            return NATIVE
        return Apart(ways, direct=traits.direct)
    default = _image(traits.images.get(default_image, default_image)) if default_image else None
    if not traits.shares_files and ways is not None:
        if not isinstance(traits, BrokerConfig):
            return ReferenceApart(ways, default_image=default)
        return ReferenceApart(ways, traits.max_sessions, default, int(traits.max_output_gib * 2**30))
    if not isinstance(traits, BrokerConfig):
        return Reference(Shared({}), default_image=default)
    return Reference(Shared(traits.shared), traits.max_sessions, default)


def _prefixes(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _image(image: str | ImageConfig) -> Image:
    """An image as people write it, ``registry/name:tag`` or ``registry/name@sha256:...``, or with details."""
    locations = [image] if isinstance(image, str) else list(image.locations)
    digest = None if isinstance(image, str) else image.digest
    _, _, in_name = locations[0].partition("@")
    return Image(locations=locations, digest=digest or in_name)
