"""A StepPlan as an ExecutionRequest, in the native dialect: standard fields, plus our additive ones."""

from __future__ import annotations

import math
from datetime import timedelta
from urllib.parse import quote

from wes_bridge.model.execution_broker import (
    DOCKER_CONTAINER,
    PROCESS,
    Checksum,
    Compute,
    Data,
    Executable,
    ExecutionRequest,
    Image,
    Meta,
    MinMax,
    Network,
    RequestedSchedule,
    RequestedScheduleBlock,
    Storage,
    Stream,
    Streams,
    Volume,
)
from wes_bridge.model.locations import is_elsewhere, is_web
from wes_bridge.model.step_plan import Resources, StagedFile, StageMode, StepPlan
from wes_bridge.model.units import format_duration, gib_ceil

OUTPUT = "output"


def native_request(plan: StepPlan, *, image: Image | None) -> ExecutionRequest:
    """The request for a node of wes-bridge's own kind.

    Args:
        plan: what to run.
        image: the container image to run it in; None for a plain process.
    """
    staged = [_staged(number, item) for number, item in enumerate(plan.staged)]
    output = Data(meta=Meta(name=OUTPUT), location=plan.output_url, access="WRITE", directory=True)
    output_volume = Volume(path=plan.workdir, mode="READWRITE", resource=OUTPUT)
    return ExecutionRequest(
        executable=_executable(plan, image),
        compute=Compute(
            meta=Meta(name="compute"),
            cores=_cores(plan.resources),
            memory=_memory(plan.resources),
            volumes=[output_volume, *(volume for _, volume in staged)],
        ),
        storage=_storage(plan.resources),
        data=[output, *(data for data, _ in staged)],
        schedule=_schedule(plan),
    )


def _executable(plan: StepPlan, image: Image | None) -> Executable:
    streams = Streams(
        stdin=Stream(path=plan.stdin) if plan.stdin else None,
        stdout=_kept(plan.stdout, plan.stdout_url),
        stderr=_kept(plan.stderr, plan.stderr_url),
    )
    return Executable(
        kind=DOCKER_CONTAINER if image else PROCESS,
        meta=Meta(name=plan.name),
        image=image,
        command=plan.argv,
        environment=plan.environment,
        network=Network(access=plan.network),
        workdir=plan.workdir,
        root=plan.root,
        rewrite=plan.rewrite,
        streams=streams,
        time_limit=plan.time_limit or None,
        success_codes=plan.success_codes,
    )


def _kept(path: str | None, url: str | None) -> Stream | None:
    """A stream goes to a file of the output directory when the tool says so, else to a place of ours."""
    if path:
        return Stream(path=path)
    return Stream(destination=url) if url else None


def _staged(number: int, item: StagedFile) -> tuple[Data, Volume]:
    name = f"input-{number}"
    location = item.url
    if item.contents is not None:
        location = "data:," + quote(item.contents)
    data = Data(meta=Meta(name=name), location=location, directory=item.directory or None)
    if item.url is not None and not item.directory and is_elsewhere(item.url) and not is_web(item.url):
        data = data.model_copy(update=_expected(item))
    volume = Volume(
        path=item.path,
        resource=name,
        mode="READONLY" if item.mode is StageMode.READ else "READWRITE",
        private_copy=True if item.mode is StageMode.COPY else None,
    )
    return data, volume


def _expected(item: StagedFile) -> dict[str, object]:
    """What is said of a file that is handed on by its name: the node compares it with what comes.

    Not so for http(s), of which the size and checksum in a job have never been held against anyone.
    """
    found: dict[str, object] = {} if item.size is None else {"size": item.size}
    kind, dollar, value = (item.checksum or "").partition("$")
    if dollar and value:
        found["checksum"] = Checksum(type=kind, value=value)
    return found


def _cores(resources: Resources) -> MinMax:
    most = math.ceil(resources.cores_max) if resources.cores_max else None
    return MinMax(min=max(1, math.ceil(resources.cores_min)), max=most)


def _memory(resources: Resources) -> MinMax | None:
    if resources.memory_min is None:
        return None
    most = resources.memory_max
    return MinMax(
        min=max(1, gib_ceil(resources.memory_min)),
        max=max(1, gib_ceil(most)) if most else None,
        min_bytes=resources.memory_min,
        max_bytes=most,
    )


def _storage(resources: Resources) -> list[Storage] | None:
    if resources.scratch_min is None:
        return None
    size = MinMax(min=max(1, gib_ceil(resources.scratch_min)), min_bytes=resources.scratch_min)
    return [Storage(meta=Meta(name="scratch"), size=size)]


def _schedule(plan: StepPlan) -> RequestedScheduleBlock | None:
    if plan.asked_time is None:
        return None
    duration = format_duration(timedelta(seconds=plan.asked_time))
    return RequestedScheduleBlock(requested=RequestedSchedule(duration=duration))
