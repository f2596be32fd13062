"""From configuration to brokers."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp

from wes_bridge.config import BrokerTraits, CredentialsConfig, ImageConfig
from wes_bridge.federation.client import Broker
from wes_bridge.federation.credentials import Credentials
from wes_bridge.federation.dialects import image_of
from wes_bridge.federation.profile import Profile
from wes_bridge.model.execution_broker import Image


def make_broker(
    traits: BrokerTraits, http: aiohttp.ClientSession, credentials: CredentialsConfig | None = None
) -> Broker:
    """A broker as configured or listed.

    Args:
        traits: what is known of it.
        http: shared by all brokers of a process.
        credentials: where its secret is; None: it wants none.
    """
    secret = Credentials(credentials) if credentials is not None else None
    return Broker(traits.name, str(traits.url), http, profile_of(traits), secret)


def profile_of(traits: BrokerTraits) -> Profile:
    """What a broker can do, as configured."""
    return Profile(
        dialect=traits.dialect,
        data=_prefixes(traits.data),
        holds=tuple(traits.holds),
        images={name: _image(image) for name, image in traits.images.items()},
        registries=_prefixes(traits.registries),
        labels=dict(traits.labels),
        hosts=frozenset(traits.hosts),
    )


def _prefixes(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _image(image: str | ImageConfig) -> Image:
    if isinstance(image, str):
        return image_of(image)
    first = image_of(image.locations[0], image.digest)
    return Image(locations=list(image.locations), digest=first.digest)
