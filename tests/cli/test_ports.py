"""Ports of embedded nodes: what was chosen for a node is its own before it listens there."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from wes_bridge.cli.ports import keep_ports
from wes_bridge.config import NodeConfig

_IP_LOCAL_PORT_RANGE = 51


def chosen(folder: Path) -> int:
    (node,) = keep_ports([NodeConfig(name="a")], folder)
    return node.port


def test_a_chosen_port_is_given_to_nobody_else_who_asks_for_any(tmp_path: Path) -> None:
    """Another service that starts in the same second, with ``port: 0``."""
    port = chosen(tmp_path)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE, struct.pack("I", port << 16 | port))
        except OSError:
            pytest.skip("this kernel cannot be asked for one port as any")
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", 0))


def test_nor_is_it_taken_by_who_does_not_share(tmp_path: Path) -> None:
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", chosen(tmp_path)))


def test_the_node_listens_there_again_and_again(tmp_path: Path) -> None:
    port = chosen(tmp_path)
    listens = (
        "import socket\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"s.bind(('127.0.0.1', {port})); s.listen(); socket.create_connection(s.getsockname(), 5)\n"
        "s.accept()[0].sendall(b'x')"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", listens], check=True, timeout=20)
    assert chosen(tmp_path) == port
