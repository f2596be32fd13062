"""Bodies that could take long to read are looked at by a process that can be killed, so that others are
answered meanwhile: any YAML but a short one, and JSON of very many values.

It must not know what a body is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from weakref import WeakKeyDictionary

from wes_bridge.surface import yaml_reader
from wes_bridge.surface.errors import BadRequestError
from wes_bridge.surface.yaml_reader import NotReadError, at_most

MOST_VALUES = 1_200_000
"""In a body in JSON, a list or an object counting as four: it takes a fifth of a second to read."""
SHORT = 2048
"""Bytes of YAML that are read at once: it takes 20 ms at most."""
_SECONDS = 20.0
"""That a process has."""
_AT_ONCE = 2
"""Processes."""
_WAITING = 32
"""Bodies that may wait for one."""


class _Turns:
    def __init__(self) -> None:
        self.free = asyncio.Semaphore(_AT_ONCE)
        self.waiting = 0


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


async def yaml_as_json(body: bytes) -> bytes:
    """The JSON of a YAML text.

    Raises:
        BadRequestError: it is none, is too much, or there are too many to read.
    """
    try:
        return await _read(body) if len(body) > SHORT else yaml_reader.yaml_as_json(body)
    except NotReadError as error:
        raise BadRequestError(f"the body is not valid YAML: {error}") from error


async def check_values(what: str, body: bytes, most: int = MOST_VALUES) -> None:
    """Check that a JSON text does not have very many values, for each of which an object would be made.

    Raises:
        BadRequestError: 413: it has; or there are too many to look at.
    """
    if at_most(body, most):
        return
    try:
        await _read(body, "--count", str(most))
    except NotReadError as error:
        raise BadRequestError(f"{what}: {error}; refer to large inputs by URL", 413) from error


async def _read(body: bytes, *arguments: str) -> bytes:
    """What the program says."""
    turns = _turns.setdefault(asyncio.get_running_loop(), _Turns())
    if turns.waiting >= _WAITING:
        raise BadRequestError("too many large bodies are being read already; try again in a moment", 503)
    turns.waiting += 1
    try:
        async with asyncio.timeout(_SECONDS * 2), turns.free:
            return await _by_process(body, arguments)
    except TimeoutError:
        raise NotReadError("it takes too long to read; send it as JSON, or with fewer values") from None
    finally:
        turns.waiting -= 1


async def _by_process(body: bytes, arguments: tuple[str, ...]) -> bytes:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        yaml_reader.__file__,
        *arguments,
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate(body)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == yaml_reader.REFUSED:
        raise NotReadError(said.decode(errors="replace"))
    if process.returncode != 0:
        raise NotReadError("it takes too much time or memory to read; send it as JSON, or with fewer values")
    return said
