"""Link-local addresses out of reach of a network namespace, by rules that come before all routes.

At one of them a cloud gives the machine's credentials to who asks. ``networks`` closes the networks that it
makes with it; and it is its own program (``python -I -S link_local.py [NOTE]``), which closes the network
that it is started in: a container's that is being made (see ``closing``). Each container waits for that, so
it imports as little as can be: ``socket`` takes twice as long as all of it.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import sys

CLOSED = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128")
"""Addresses that are out of reach: the link-local ones, and where clouds have such services beside these."""
_NEVER = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOSYS)
"""What the kernel says where such rules can never be made."""
_ROUTE = 0


def close() -> None:
    """Put what must not be reached out of reach.

    What runs here later has no right to take the rules away. In a network of our own it is done when all
    routes are there, since a router may have such an address: that it is the next hop is no matter of rules
    any more.

    Raises:
        OSError: it cannot be done.
    """
    has_ipv6 = os.path.exists("/proc/net/if_inet6")
    kernel = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _ROUTE)
    try:
        for place in CLOSED:
            if ":" not in place or has_ipv6:
                kernel.sendall(_rule(place))
                (number,) = struct.unpack_from("i", kernel.recv(4096), 16)
                if number:
                    raise OSError(-number, os.strerror(-number))
    finally:
        kernel.close()


def _rule(place: str) -> bytes:
    """The question to the kernel for a rule: what is sent to these addresses is unreachable."""
    new_rule, flags, priority, unreachable = 32, 0x605, 1, 7
    host, _, length = place.partition("/")
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    address = _socket.inet_pton(family, host)
    rule = struct.pack("8BI", family, int(length), 0, 0, 0, 0, 0, unreachable, 0)
    rule += struct.pack("HH", 4 + len(address), 1) + address + struct.pack("HHI", 8, 6, priority)
    return struct.pack("IHHII", 16 + len(rule), new_rule, flags, 1, 0) + rule


def main(note: str | None = None) -> None:
    """Close the network that this process is in.

    Args:
        note: where to write down that it is never possible here; without it that is a failure, too.
    """
    try:
        close()
    except OSError as error:
        if note is None or error.errno not in _NEVER:
            raise
        try:
            with open(note, "w") as file:
                file.write(error.strerror or "it cannot be done")
        except OSError:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:2])
