"""Ports of embedded nodes and of the aggregator: chosen once for a state folder and kept.

Workers need a node's URL before it runs, and sessions are found again by their URL after everything was
started anew: so the port must not change. Between the choice and the moment at which the node listens, the
port is held, so that it is given to nobody else who asks for any.
"""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import TypeVar

from wes_bridge.config import AggregatorConfig, NodeConfig, ServerConfig
from wes_bridge.private_files import private_file

Listener = TypeVar("Listener", NodeConfig, AggregatorConfig)
_held: dict[tuple[str, int], socket.socket] = {}
"""Of ports that were chosen: bound, never listening, to the end of the process. Linux lets a program of ours
listen there, which asks for this very port, and does not choose it for who asks for any."""


def keep_ports(
    nodes: list[Listener], state_dir: Path, name: str = "node-ports.json", others: set[int] | None = None
) -> list[Listener]:
    """The nodes with a port each, the one they had last time if it is free.

    Args:
        nodes: as configured.
        state_dir: where the ports are noted.
        name: of the file they are noted in.
        others: ports that are somebody else's.
    """
    path = state_dir / name
    known: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        known = {str(name): int(port) for name, port in json.loads(path.read_text()).items()}
    taken = {node.port for node in nodes if node.port} | (others or set())
    result: list[Listener] = []
    for node in nodes:
        port = node.port or _hold_port(node.host, known.get(node.name, 0), taken)
        taken.add(port)
        result.append(node.model_copy(update={"port": port}))
    private_file(path)
    path.write_text(json.dumps({node.name: node.port for node in result}))
    return result


def free_port(host: str, wanted: int = 0, taken: set[int] | None = None) -> int:
    """A port that nobody listens on: ``wanted`` if that is so for it."""
    with _free(host, wanted, taken or set()) as sock:
        return int(sock.getsockname()[1])


def _hold_port(host: str, wanted: int, taken: set[int]) -> int:
    """As :func:`free_port`, and hold it."""
    sock = _free(host, wanted, taken)
    port = int(sock.getsockname()[1])
    if (host, port) in _held:  # by us, from an earlier time
        sock.close()
    else:
        _held[host, port] = sock
    return port


def _free(host: str, wanted: int, taken: set[int]) -> socket.socket:
    """Bound to a free port.

    Raises:
        OSError: there is none.
    """
    for port in (wanted, 0, 0, 0):
        with contextlib.suppress(OSError):
            sock = listener(host, port)
            if sock.getsockname()[1] not in taken:
                return sock
            sock.close()
    raise OSError(f"no free port on {host}")


def listener(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening.

    Raises:
        OSError: the port is taken, or the host is not one of this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def base_url(host: str, port: int, scheme: str = "http") -> str:
    """The URL by which a server bound to ``host`` is reached from this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{reachable}]:{port}" if ":" in reachable else f"{scheme}://{reachable}:{port}"


def server_url(config: ServerConfig, port: int) -> str:
    """The URL by which a server is reached from this machine."""
    return base_url(config.host, port, "https" if config.tls is not None else "http")
