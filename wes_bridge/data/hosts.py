"""Which hosts may be contacted on behalf of a workflow or user: public ones, and those the site lists."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ANY = "any"
"""Entry that lifts the guard."""


class PrivateHosts:
    """The private hosts that a site allows (``fetch.private_hosts``).

    Args:
        entries: host names, addresses, networks (CIDR), or ``any``.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entries)
        self._networks = [network for entry in self._entries if (network := _network(entry))]

    def names(self, host: str) -> bool:
        """Whether a host is allowed by its name, wherever it leads."""
        return ANY in self._entries or host in self._entries

    def allows(self, address: Address) -> bool:
        """Whether an address is public, or listed."""
        return address.is_global or any(
            address.version == network.version and address in network for network in self._networks
        )


def literal(host: str) -> Address | None:
    """The address that a URL's host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None  # a host name
