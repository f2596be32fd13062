"""Which network the steps of an owner get: the node's side of ``networks``.

Whether one can be made here is found out by trying, once, when somebody asks: it takes as long as a quick
step. It must not know what a step is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Literal

from wes_bridge.node.errors import NotBegunError
from wes_bridge.node.platforms import link_local, networks
from wes_bridge.node.platforms.keeping import Keeping, NoSandboxError
from wes_bridge.private_files import private_file

_RESOLVER = Path("/etc/resolv.conf")
_PASSING = tuple(map(os.strerror, (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)))
"""What does not mean that it can never be made."""
_TRIED_FOR = 20.0
"""Seconds that a program may take to make a network."""


class Networks:
    """The networks of a node's steps.

    Args:
        keeper: makes them.
        state: the node's state directory.
        wanted: the setting ``step_network``.
    """

    def __init__(self, keeper: Keeping, state: Path, wanted: Literal["auto", "isolated", "machine"]) -> None:
        self._keeper = keeper
        self._state = state
        self._wanted = wanted
        self._how: dict[str, object] | None = None
        self._why_not = "the setting step_network is machine" if wanted == "machine" else "it was not tried"
        self._tried = wanted == "machine"
        self._lock = Lock()

    async def settled(self) -> str | None:
        """Why steps have the machine's network; None when they have their own."""
        if not self._tried:
            await asyncio.get_running_loop().run_in_executor(None, self._try_once)
        return self._why_not if self._how is None else None

    def of(self, owner: str) -> Mapping[str, object] | None:
        """What the keeper is told: the network of an owner's steps; None for the machine's.

        For threads.

        Raises:
            NotBegunError: there are none, and steps must not have the machine's.
        """
        self._try_once()
        if self._how is not None:
            return {**self._how, "owner": owner}
        if self._wanted == "isolated" or not self._tried:  # a machine that is full for a moment opens nothing
            raise NotBegunError(f"there is no network for it: {self._why_not}")
        return None

    def _try_once(self) -> None:
        with self._lock:
            if not self._tried:
                try:
                    self._try()
                    self._tried = True
                except OSError as error:  # it may work the next time
                    self._why_not = error.strerror or str(error)

    def _try(self) -> None:
        reasons: list[str] = []
        for name in networks.PROGRAMS:
            path = shutil.which(name)
            if path is None:
                reasons.append(f"{name} is not installed")
                continue
            how: dict[str, object] = {"name": name, "path": path, "resolver": self._resolver(name)}
            reason = self._works(how)
            if reason is None:
                self._how = how
                return
            reasons.append(reason)
        self._why_not = "; ".join(reasons)

    def _works(self, how: dict[str, object]) -> str | None:
        """Run a command in one; why that does not work.

        Raises:
            OSError: that is not known now.
        """
        record = self._state / f"network-{os.getpid()}"
        null = os.open(os.devnull, os.O_RDWR)
        try:
            command = self._keeper.start(
                record,
                ["sh", "-c", ":"],
                {},
                (null,) * 3,
                program="/bin/sh",
                cwd=Path("/"),
                network={**how, "owner": ""},
            )
            if not command.ends_within(_TRIED_FOR):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(command.pid, signal.SIGKILL)
                command.close()
                raise TimeoutError(f"{how['name']}: its command does not end")
            return None if command.code == 0 else f"{how['name']}: its command ended with {command.code}"
        except NoSandboxError as error:
            if any(words in str(error) for words in _PASSING):
                raise OSError(str(error)) from error
            return str(error)
        finally:
            os.close(null)
            record.unlink(missing_ok=True)

    def _resolver(self, name: str) -> tuple[str, str] | None:
        """A file for the steps, and the one of the machine that it stands for; None when that one is good."""
        try:
            target = _RESOLVER.resolve(strict=True)
            text = resolver(target.read_text(errors="replace"), networks.DNS[name])
        except OSError:  # there is none: programs ask the loopback interface then
            return None
        if text is None:
            return None
        file = self._state / "resolv.conf"
        private_file(file)
        file.write_text(text)
        file.chmod(0o644)  # a step need not be our user
        return str(file), str(target)


def resolver(text: str, server: str) -> str | None:
    """What ``/etc/resolv.conf`` has to say to steps; None where it can stay as it is.

    A name server on the machine's loopback interface, or at a link-local address, is out of their reach.

    Args:
        text: of the machine's.
        server: address at which such a server is reached.
    """
    lines = text.splitlines()
    words = [line.split() for line in lines]
    servers = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1]
    if servers and not any(map(_is_out_of_reach, servers)):
        return None
    kept = [line for line, parts in zip(lines, words, strict=True) if parts[:1] != ["nameserver"]]
    return "\n".join([*kept, f"nameserver {server}", ""])


def _is_out_of_reach(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return address.is_loopback or any(address in ipaddress.ip_network(place) for place in link_local.CLOSED)
