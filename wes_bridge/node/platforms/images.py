"""Container images: which are here, and bringing those that are not. Talks to an engine's command line."""

from __future__ import annotations

import asyncio
import json
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from wes_bridge.model.execution_broker import Image, Message
from wes_bridge.node import messages
from wes_bridge.node.errors import PlatformError
from wes_bridge.node.messages import message
from wes_bridge.one_cpu import anywhere

REMEMBER = 15.0
"""Seconds that what an engine said of an image is believed."""
REMEMBER_FAILURE = 120.0
"""Seconds that an image that could not be pulled is not offered again."""
INSPECT_TIMEOUT = 30.0
PULL_TIMEOUT = 3600.0

_DIGEST = re.compile(r"(sha256:)?|(sha256:[0-9a-f]{64})|(sha512:[0-9a-f]{128})|[0-9a-f]{12,128}")
"""What a content can be called: nothing, as registries call it, or an engine's id or its beginning."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Local:
    """An image that is here: everything by which its content is known."""

    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What to call its content: as registries do, else by its id."""
        known = [digest.rpartition("@")[2] for digest in self.digests]
        named = [digest for digest in known if digest.startswith("sha256:")]
        return (named or known or ["without a digest"])[-1]

    def matches(self, digest: str | None) -> bool:
        """Whether it is the content asked for; nothing asked for matches everything."""
        if not digest or digest == "sha256:":
            return True
        return any(digest in known for known in self.digests)


class Images:
    """The images of one engine.

    Args:
        engine: its command.
        pull: whether to fetch what is not here.
        names: names in requests that stand for others here.
    """

    def __init__(self, engine: str, pull: bool, names: Mapping[str, str]) -> None:
        self._engine = engine
        self._pull = pull
        self._names = names
        self._seen: dict[str, tuple[float, Local | None]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._pulling: dict[str, asyncio.Task[None]] = {}

    async def check(self, image: Image | None) -> list[Message]:
        """Why an image could not be used; empty when it could."""
        if image is None or not image.locations:
            return [message(messages.MISSING_VALUE, "a container needs executable.image.locations")]
        wanted = (image.platform or {}).get("architecture")
        here = _MACHINES.get(platform.machine(), platform.machine())
        if wanted and wanted != here:
            text = "images for {wanted} do not run here, this machine is {here}"
            return [message(messages.NOT_SUPPORTED, text, wanted=wanted, here=here)]
        if not _DIGEST.fullmatch(image.digest or ""):
            text = (
                "executable.image.digest: {digest} is no digest, which is sha256: and 64 hexadecimal digits"
                " in lower case"
            )
            return [message(messages.INVALID_VALUE, text, digest=image.digest)]
        reasons: list[Message] = []
        for name in self._local_names(image):
            if _is_option(name):
                text = "{image} is not the name of an image"
                reasons.append(message(messages.INVALID_VALUE, text, image=name))
                continue
            reason = await self._why_not(name, image)
            if reason is None or reason.level == "WARN":
                return [] if reason is None else [reason]
            reasons.append(reason)
        return reasons

    async def get(self, image: Image | None) -> str:
        """The name of an image that is here now, pulled if need be.

        Raises:
            PlatformError: none of its locations gave it.
        """
        if image is None or not image.locations:
            raise PlatformError("a container needs an image", messages.IMAGE_UNAVAILABLE)
        names = [name for name in self._local_names(image) if not _is_option(name)]
        for name in names:
            local = await self.inspect(name)
            if local is not None and local.matches(image.digest):
                return name
        if not self._may_pull(image):
            raise PlatformError(f"no image: {' or '.join(names)} is not here", messages.IMAGE_UNAVAILABLE)
        reasons = []
        for name in names:
            try:
                await self._fetch(name)
            except PlatformError as error:
                reasons.append(str(error))
                continue
            local = await self.inspect(name)
            if local is not None and local.matches(image.digest):
                return name
            reasons.append(f"{name} is {local.digest if local else 'not there'}, not {image.digest}")
        raise PlatformError("no image: " + "; ".join(reasons), messages.IMAGE_UNAVAILABLE)

    async def inspect(self, name: str) -> Local | None:
        """What is known of an image here; None when it is not here."""
        known = self._seen.get(name)
        if known is not None and time.monotonic() - known[0] < REMEMBER:
            return known[1]
        code, out, _ = await run(self._engine, "image", "inspect", name, timeout=INSPECT_TIMEOUT)
        local = _local(out) if code == 0 else None
        self._seen[name] = (time.monotonic(), local)
        return local

    def _may_pull(self, image: Image) -> bool:
        return self._pull and image.pull is not False

    def _local_names(self, image: Image) -> list[str]:
        return [self._names.get(name, name) for name in image.locations or []]

    async def _why_not(self, name: str, image: Image) -> Message | None:
        local = await self.inspect(name)
        if local is not None and local.matches(image.digest):
            return None
        if local is not None and not self._may_pull(image):
            text = "image {image} is here, but it is {here}, not {digest}"
            return message(messages.IMAGE_DIGEST, text, image=name, here=local.digest, digest=image.digest)
        if not self._may_pull(image):
            asked = "the request asks for one that is"
            here = asked if image.pull is False else "this node does not pull images"
            text = "image {image} is not here, and {why}"
            return message(messages.IMAGE_UNAVAILABLE, text, image=name, why=here)
        failed = self._failed.get(name)
        if failed is not None and time.monotonic() - failed[0] < REMEMBER_FAILURE:
            text = "image {image} is not here, and pulling it failed: {reason}"
            return message(messages.IMAGE_UNAVAILABLE, text, image=name, reason=failed[1])
        if local is not None:
            text = "image {image} is here, but it is {here}, not {digest}: it will be pulled again"
            known = {"image": name, "here": local.digest, "digest": image.digest}
            return message(messages.IMAGE_DIGEST, text, "WARN", **known)
        return None

    async def _fetch(self, name: str) -> None:
        task = self._pulling.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._pull_now(name))
            self._pulling[name] = task
            task.add_done_callback(lambda _: self._pulling.pop(name, None))
        await asyncio.shield(task)

    async def _pull_now(self, name: str) -> None:
        code, _, err = await run(self._engine, "pull", "--quiet", name, timeout=PULL_TIMEOUT)
        self._seen.pop(name, None)
        if code != 0:
            reason = last_line(err) or f"exit code {code}"
            self._failed[name] = (time.monotonic(), reason)
            raise PlatformError(f"pulling {name} failed: {reason}", messages.IMAGE_UNAVAILABLE)
        self._failed.pop(name, None)


def _is_option(name: str) -> bool:
    """Whether an engine would take an image's name for an option."""
    return name.startswith("-")


async def run(*command: str, timeout: float) -> tuple[int, str, str]:  # noqa: ASYNC109
    """Run an engine's command.

    Returns:
        Its exit code (125 when it could not be run or took longer than ``timeout`` seconds), and what it
        wrote to standard output and standard error.
    """
    try:
        with anywhere():
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
    except OSError as error:
        return 125, "", f"{command[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 125, "", f"{command[0]} {command[1]} took longer than {timeout:g} s"
    except asyncio.CancelledError:
        process.kill()
        raise
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def last_line(text: str) -> str:
    """The last line with anything in it, cut to a readable length."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def _local(text: str) -> Local | None:
    try:
        found = json.loads(text)[0]
    except (ValueError, IndexError, KeyError):
        return None
    digests = [found.get("Id", ""), found.get("Digest", ""), *(found.get("RepoDigests") or [])]
    return Local(tuple(digest for digest in digests if digest))
