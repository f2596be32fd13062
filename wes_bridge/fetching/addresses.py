"""Which addresses may be contacted for a workflow or user: public ones, and those that the site lists.

An IPv6 address can carry an IPv4 address (mapped, NAT64, 6to4 and others); what counts is where a packet to
it ends up, so that ``::ffff:127.0.0.1`` is as private as ``127.0.0.1``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ANY = "any"
"""Entry that lifts the guard."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",  # relays of 6to4
        "::/96",  # IPv4 in IPv6, as it was before
        "::ffff:0:0:0/96",  # IPv4 translated (SIIT)
        "64:ff9b:1::/48",  # NAT64 of a site
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
    )
)


class PrivateHosts:
    """The private hosts that a site allows (``fetch.private_hosts``).

    Args:
        entries: host names, addresses, networks (CIDR), ``any``; names and addresses with ``:port`` too.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entry.lower() for entry in entries)
        self._networks = [network for entry in self._entries if (network := _network(entry))]

    def names(self, host: str, port: int | None = None) -> bool:
        """Whether a host is allowed by its name, wherever it leads."""
        entries = self._entries
        return ANY in entries or host in entries or (port is not None and f"{_shown(host)}:{port}" in entries)

    def allows(self, address: Address) -> bool:
        """Whether an address is public, or listed."""
        meant = meant_by(address)
        return is_public(meant) or any(
            one.version == network.version and one in network
            for network in self._networks
            for one in (address, meant)
        )


def literal(host: str) -> Address | None:
    """The address that a URL's host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def meant_by(address: Address) -> Address:
    """The address that packets to ``address`` are for: the IPv4 one that it carries, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether an address is one of the Internet's, for one receiver."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address.version == net.version and address in net for net in _NEVER_PUBLIC)
    )


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None  # a host name
