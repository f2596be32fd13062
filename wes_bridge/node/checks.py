"""What speaks against a request, whatever the platform: messages for a NO, hints for a YES."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from wes_bridge.model.data_urls import data_path_of
from wes_bridge.model.execution_broker import (
    SIMPLE_DATA,
    Component,
    Data,
    Executable,
    ExecutionRequest,
    Message,
    Streams,
    Volume,
)
from wes_bridge.model.units import parse_duration, parse_interval
from wes_bridge.node import messages
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.kept.asking import check_keep, check_lease
from wes_bridge.node.kept.inputs import IsKept, check_inputs, is_input
from wes_bridge.node.layout import clean_path, clean_relative
from wes_bridge.node.messages import message
from wes_bridge.node.staging.arriving import problem_with
from wes_bridge.node.staging.plan import expected_of, resources, volume_path
from wes_bridge.node.staging.schemes import Schemes

LONGEST = timedelta(days=36525)
"""No session takes longer; a hundred years from now is still a date."""


def check_values(request: ExecutionRequest) -> None:
    """Check what is wrong whatever the node: durations, paths.

    Raises:
        BadRequestError: says which field, and why.
    """
    _check_schedule(request)
    for volume in (request.compute.volumes or []) if request.compute else []:
        volume_path(volume)
    for data in request.data or []:
        check_lease(data)
    if request.executable is not None:
        _check_executable_paths(request.executable)
        _check_words(request.executable)


def _check_schedule(request: ExecutionRequest) -> None:
    requested = request.schedule.requested if request.schedule else None
    if requested is None:
        return
    try:
        if requested.duration and parse_duration(requested.duration).total_seconds() <= 0:
            raise ValueError(f"not a positive duration: {requested.duration}")
        if requested.duration and parse_duration(requested.duration) > LONGEST:
            raise ValueError(f"longer than {LONGEST.days} days: {requested.duration}")
        if requested.start:
            _check_interval(requested.start)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(f"schedule.requested: {error}") from error


def _check_interval(text: str) -> None:
    start, end = parse_interval(text)
    if end < start:
        raise ValueError(f"the interval ends before it starts: {text!r}")
    if start.year < 1900 or end.year > 9000:
        raise ValueError(f"not a time anything can run at: {text!r}")


def _check_executable_paths(executable: Executable) -> None:
    for value, what in ((executable.root, "executable.root"), (executable.workdir, "executable.workdir")):
        if value is not None:
            clean_path(value, what)
    for path in executable.rewrite or []:
        clean_relative(path, "executable.rewrite")
    streams = executable.streams or Streams()
    for stream, what in ((streams.stdout, "stdout"), (streams.stderr, "stderr")):
        if stream is not None and stream.path:
            clean_relative(stream.path, f"executable.streams.{what}.path")
    if streams.stdin is not None and streams.stdin.path:
        clean_path(streams.stdin.path, "executable.streams.stdin.path")


def _check_words(executable: Executable) -> None:
    for word in (*(executable.command or []), *(executable.environment or {}).values()):
        if "\x00" in word:
            raise BadRequestError("executable.command and environment must not contain NUL")
    for name in executable.environment or {}:
        if not name or "=" in name or "\x00" in name:
            raise BadRequestError(f"not a name for an environment variable: {name!r}")


def check_request(request: ExecutionRequest, schemes: Schemes, is_kept: IsKept) -> list[Message]:
    """Check what no platform of this node could do.

    Args:
        request: the request, its kinds and values already checked.
        schemes: what can be staged and stored, and which URLs may be used.
        is_kept: whether a URL is of an output that this node keeps for the same owner.

    Returns:
        Messages; those of level ERROR are reasons for a NO.
    """
    executable = request.executable
    if executable is None:
        return [message(messages.EXECUTABLE_REQUIRED, "a request needs an executable")]
    found: list[Message] = []
    if executable.privileged:
        found.append(message(messages.NOT_SUPPORTED, "privileged executables are not run here"))
    if executable.network is not None and executable.network.ports:
        found.append(message(messages.NOT_SUPPORTED, "this node does not publish ports"))
    for data in request.data or []:
        if not (is_input(data) and data.keep is None and is_kept(data.location or "")):
            found += _check_data(data, schemes)
    found += check_inputs(request, is_kept)
    found += _check_streams(executable, schemes)
    found += _check_names(request)
    found += _check_volumes(request)
    found += _check_storage(request)
    return found


def _check_data(data: Data, schemes: Schemes) -> list[Message]:
    name = _name(data)
    if data.kind != SIMPLE_DATA:
        return [message(messages.UNKNOWN_TYPE, "data of kind {kind} cannot be staged", kind=data.kind)]
    location = data.location or ""
    if data.keep is not None:
        return check_keep(data)
    if data.directory and data.access != "WRITE" and location in ("", "data:", "data:,"):
        return []
    if not location:
        return [message(messages.MISSING_VALUE, "data resource {name} has no location", name=name)]
    reason = schemes.refusal(location, write=data.access == "WRITE", directory=bool(data.directory))
    if reason is not None:
        text, shown = "data resource {name}: {reason} ({location})", location
        if data_path_of(location) is not None:
            shown = location.partition("?")[0]  # a signature says nothing to people
        return [message(messages.UNKNOWN_URL, text, name=name, reason=reason, location=shown[:200])]
    return _check_expected(data, name)


def _check_expected(data: Data, name: str) -> list[Message]:
    """A size or checksum that nothing can have."""
    size, checksum = expected_of(data).size, expected_of(data).checksum
    reason = None if size is None or size >= 0 else f"its size must be 0 or more, not {size}"
    if reason is None and checksum is not None:
        reason = problem_with(*checksum)
    if reason is None and checksum is not None and data.directory:
        reason = "a folder has no checksum"
    if reason is None:
        return []
    return [message(messages.INVALID_VALUE, "data resource {name}: {reason}", name=name, reason=reason)]


def _check_streams(executable: Executable, schemes: Schemes) -> list[Message]:
    streams = executable.streams or Streams()
    found = []
    for name, stream in (("stdout", streams.stdout), ("stderr", streams.stderr)):
        location = stream.destination if stream else None
        reason = schemes.refusal(location, write=True) if location else None
        if reason is not None:
            text = "{name} cannot be kept at {location}: {reason}"
            values = {"name": name, "location": location, "reason": reason}
            found.append(message(messages.UNKNOWN_URL, text, **values))
    return found


def _check_names(request: ExecutionRequest) -> list[Message]:
    names = [item.meta.name for item in request.data or [] if item.meta is not None and item.meta.name]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) != len(names) else set()
    return [
        message(messages.INVALID_VALUE, "two data resources are called {name}", name=name)
        for name in sorted(twice)
    ]


def _check_volumes(request: ExecutionRequest) -> list[Message]:
    volumes = (request.compute.volumes or []) if request.compute else []
    known: dict[str, Data | None] = {**resources(request.data or [])}
    known |= dict.fromkeys(_names(request.storage))
    found = [_unknown(volume) for volume in volumes if (volume.resource or "") not in known]
    used = {id(known[volume.resource]) for volume in volumes if volume.resource in known}
    for data in request.data or []:
        if id(data) not in used:
            found.append(
                message(
                    messages.UNUSED,
                    "data resource {name} is not mounted by any volume and is left alone",
                    "WARN",
                    name=_name(data),
                )
            )
    return found


def _check_storage(request: ExecutionRequest) -> list[Message]:
    """Data and storage name each other; a name that nothing has is a mistake."""
    data, storage = _names(request.data), _names(request.storage)
    text = "{where} is {name}, which is not in the request"
    found = [
        (f"data[{index}].storage", item.storage)
        for index, item in enumerate(request.data or [])
        if item.storage and item.storage not in storage
    ]
    found += [
        (f"storage[{index}].data", name)
        for index, item in enumerate(request.storage or [])
        for name in item.data or []
        if name not in data
    ]
    return [message(messages.RESOURCE_NOT_FOUND, text, where=where, name=name) for where, name in found]


def _names(parts: Iterable[Component] | None) -> set[str]:
    """What parts of a request can be called: by name and UUID."""
    metas = [part.meta for part in parts or () if part.meta is not None]
    return {name for meta in metas for name in (meta.name, str(meta.uuid) if meta.uuid else None) if name}


def _unknown(volume: Volume) -> Message:
    return message(
        messages.RESOURCE_NOT_FOUND,
        "volume at {path} mounts {resource}, which is not in the request",
        path=volume_path(volume),
        resource=volume.resource,
    )


def _name(data: Data) -> str:
    meta = data.meta
    return (meta.name or str(meta.uuid or "(unnamed)")) if meta else "(unnamed)"
