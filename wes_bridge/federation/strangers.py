"""Brokers that only a listing at a URL names: they are others' word, and are held to the guard of fetches.

A broker of the configuration, or of a listing in a file of the site, may be anywhere; one of a listing that
somebody else serves is public, at the listing's own host, or in ``fetch.private_hosts``.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from wes_bridge.config import BrokerTraits, ListingConfig, ServiceConfig
from wes_bridge.fetching.addresses import PrivateHosts, literal
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.loops import GuardedThreads


class Strangers:
    """Tells the brokers that may be asked from those that may not.

    Args:
        config: of the service.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self._guard = Guard(PrivateHosts(config.fetch.private_hosts))
        self._known: set[str] = set()
        for broker in config.brokers:
            self.trust(broker)
        self._known |= {listing.url.host or "" for listing in config.listings if listing.url is not None}

    def trust(self, broker: BrokerTraits) -> None:
        """A broker is the site's own word."""
        self._known |= {broker.url.host or "", *map(_host, broker.hosts)}

    def check(self, broker: BrokerTraits, listing: ListingConfig) -> None:
        """Look at a listed broker; where names lead is looked at when they are connected to.

        Raises:
            RefusedError: it is at a private address.
        """
        if listing.url is None:
            self.trust(broker)
            return
        port = broker.url.port or 0
        for host in (broker.url.host or "", *map(_host, broker.hosts)):
            plain = host.strip("[]")
            if host not in self._known and literal(plain) is not None:
                self._guard.check_addresses(plain, port, [plain])

    def resolver(self) -> GuardedThreads:
        """What finds brokers."""
        return GuardedThreads(self._guard, self._known)


def _host(place: str) -> str:
    """The host of ``host`` or ``host:port``."""
    return urlsplit(f"//{place}").hostname or place
