"""The one check of where something is fetched from or sent to, for threads and event loops alike."""

from __future__ import annotations

from collections.abc import Iterable

from wes_bridge.fetching.addresses import PrivateHosts, literal
from wes_bridge.fetching.errors import RefusedError
from wes_bridge.fetching.resolving import Resolver, look_up, resolve
from wes_bridge.fetching.urls import WebUrl, parse_url


class Guard:
    """Refuses private hosts.

    Args:
        hosts: the private hosts that are allowed.
        resolver: finds addresses of names.
    """

    def __init__(self, hosts: PrivateHosts, resolver: Resolver = look_up) -> None:
        self._hosts = hosts
        self.resolver = resolver

    def check_url(self, text: str) -> WebUrl:
        """Read a URL, and refuse what can be seen to be wrong without asking a name server.

        Raises:
            RefusedError: it is no URL that can be read in one way, or leads to a private address.
        """
        url = parse_url(text)
        self.check(url)
        return url

    def check(self, url: WebUrl) -> None:
        """Refuse a URL whose host is written as a private address. Raises: RefusedError."""
        if url.address is not None:
            self.check_addresses(url.host, url.port, [url.host])

    def check_addresses(self, host: str, port: int, addresses: Iterable[str]) -> None:
        """Refuse a host that leads to a private address.

        Raises:
            RefusedError: one of the addresses is private and not allowed.
        """
        if self._hosts.names(host, port):
            return
        for shown in addresses:
            address = literal(shown)
            if address is None or not self._hosts.allows(address):
                by = f" ({shown})" if shown != host else ""
                raise RefusedError(
                    f"{host} is a private address of this site{by};"
                    " the site can allow it in fetch.private_hosts"
                )

    def resolve(self, host: str, port: int, seconds: float) -> list[str]:
        """The addresses of a host, which may all be connected to. Blocks.

        Raises:
            RefusedError: one of them is private and not allowed.
            UnknownHostError: there are none, or finding them takes longer than ``seconds``.
        """
        addresses = [host] if literal(host) else resolve(host, port, seconds, self.resolver)
        self.check_addresses(host, port, addresses)
        return addresses
