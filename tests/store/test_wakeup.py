"""Wake-up calls: what a stranger can do with them."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from wes_bridge.private_files import NotOursError
from wes_bridge.store.wakeup import Sleeper, Waker


def test_the_folder_and_its_sockets_are_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "wakeup"
    folder.mkdir(mode=0o755)

    async def look() -> None:
        sleeper = Sleeper(folder, "w")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "w.sock").stat().st_mode) == 0o600
        sleeper.close()

    asyncio.run(look())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """In a temporary folder anybody could have made it first, and would hear, or remove, our sockets."""
    folder = tmp_path / "wakeup"
    folder.mkdir()
    os.chown(folder, 65534, 65534)

    async def listen() -> None:
        Sleeper(folder, "w")

    with pytest.raises(NotOursError, match="belongs to another user"):
        asyncio.run(listen())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(folder / "w.sock"))
        theirs.setblocking(False)
        waker = Waker(folder)
        waker.wake()
        waker.close()
        with pytest.raises(BlockingIOError):
            theirs.recv(10)


def test_a_link_to_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "wakeup").symlink_to(tmp_path / "real")

    async def listen() -> None:
        Sleeper(tmp_path / "wakeup", "w")

    with pytest.raises(NotOursError):
        asyncio.run(listen())


def test_a_flood_leaves_the_loop_to_others_and_makes_few_looks(tmp_path: Path) -> None:
    async def flood() -> tuple[int, int]:
        sleeper = Sleeper(tmp_path / "w", "w")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.connect(str(tmp_path / "w" / "w.sock"))
            looks, sent, until = 0, 0, time.monotonic() + 0.5

            async def look() -> None:
                nonlocal looks
                while True:
                    await sleeper.sleep(60)
                    looks += 1

            looking = asyncio.create_task(look())
            while time.monotonic() < until:
                for word in (b"", b"x" * 1000, b"!"):
                    try:
                        sent += stranger.send(word) >= 0
                    except BlockingIOError:
                        break
                await asyncio.sleep(0)
            looking.cancel()
            sleeper.close()
        return looks, sent

    looks, sent = asyncio.run(flood())
    assert sent > 100
    assert 1 <= looks <= 30


def test_a_call_is_heard_at_once_and_none_is_lost(tmp_path: Path) -> None:
    async def call() -> None:
        sleeper, waker = Sleeper(tmp_path / "w", "w"), Waker(tmp_path / "w")
        for _ in range(3):  # the later ones within the pause after the first
            waker.wake()
            before = time.monotonic()
            await sleeper.sleep(30)
            assert time.monotonic() - before < 15
        sleeper.close()
        waker.close()

    asyncio.run(call())
