"""The IVOA ExecutionBroker 1.0 data model, with our additive fields marked as such.

Wire names, kinds and shapes are those of the published schema (v1.0). Fields documented "native" are
additions that only wes-bridge's own node and client understand; a broker that does not know them ignores
them. Unknown fields are kept (an aggregator passes them on).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from wes_bridge.model.quantities import COST_CARBON as COST_CARBON  # noqa: PLC0414
from wes_bridge.model.quantities import COST_ENERGY as COST_ENERGY  # noqa: PLC0414
from wes_bridge.model.quantities import COST_MONETARY as COST_MONETARY  # noqa: PLC0414
from wes_bridge.model.quantities import METRIC_COMPUTE as METRIC_COMPUTE  # noqa: PLC0414
from wes_bridge.model.quantities import METRIC_IO as METRIC_IO  # noqa: PLC0414
from wes_bridge.model.states import LifecyclePhase, Phase
from wes_bridge.model.units import format_instant

KIND_BASE = "https://www.purl.org/ivoa.net/Calycopis-openapi/schema/v1.0/kinds/"
DOCKER_CONTAINER = KIND_BASE + "executable/docker-container.yaml"
SINGULARITY_CONTAINER = KIND_BASE + "executable/singularity-container.yaml"
JUPYTER_NOTEBOOK = KIND_BASE + "executable/jupyter-notebook.yaml"
PROCESS = "urn:wes-bridge:kind:executable:process"
"""Native: a command run as a plain process, no image."""
UNENFORCED = "urn:wes-bridge:unenforced"
"""Native: kind of the messages in which a node says which limits it cannot set to a command."""
SIMPLE_COMPUTE = KIND_BASE + "compute/simple-compute-resource.yaml"
SIMPLE_STORAGE = KIND_BASE + "storage/simple-storage-resource.yaml"
SIMPLE_VOLUME = KIND_BASE + "volume/simple-volume-mount.yaml"
SIMPLE_DATA = KIND_BASE + "data/simple-data-resource.yaml"
S3_DATA = KIND_BASE + "data/S3-data-resource.yaml"
RUCIO_DATA = KIND_BASE + "data/rucio-data-resource.yaml"
IVOA_DATA = KIND_BASE + "data/ivoa-data-resource.yaml"
SKAO_DATA = KIND_BASE + "data/skao-data-resource.yaml"
MINMAX_COST = KIND_BASE + "costs/simple-minmax-float-cost.yaml"
MINMAX_METRIC = KIND_BASE + "metrics/simple-minmax-float-metric.yaml"
ABSTRACT_COST = KIND_BASE + "costs/abstract-cost-item.yaml"
ABSTRACT_METRIC = KIND_BASE + "metrics/abstract-metric-item.yaml"
SCHEDULED_SESSION = KIND_BASE + "session/scheduled-execution-session.yaml"
SIMPLE_SESSION = KIND_BASE + "session/simple-execution-session.yaml"
OFFERSET = KIND_BASE + "offerset/execution-offerset.yaml"

ENUM_UPDATE = "uri:enum-value-update"
STRING_UPDATE = "uri:string-value-update"
INTEGER_UPDATE = "uri:integer-value-update"
ENUM_OPTION = "uri:enum-value-option"
INTEGER_DELTA_UPDATE = "uri:integer-delta-update"

Instant = Annotated[datetime, PlainSerializer(format_instant, when_used="json")]
"""An aware datetime, written as ISO 8601 UTC."""


class _Part(BaseModel):
    """Base of every part: keeps what it does not know, omits nulls when written with :func:`dump`."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class Message(_Part):
    """One message about a component, after messagetemplates.org (``MessageItem``).

    Attributes:
        broker: native: whose message it is, where an aggregator passes it on.
    """

    kind: str | None = None
    time: Instant | None = None
    level: Literal["DEBUG", "INFO", "WARN", "ERROR", "OTHER"] | None = None
    template: str | None = None
    values: dict[str, str] | None = None
    message: str | None = None
    broker: str | None = None

    def text(self) -> str:
        """The message in words: as sent, else the template with its values filled in, else the kind."""
        if self.message:
            return self.message
        text = self.template or self.kind or ""
        for name, value in (self.values or {}).items():
            text = text.replace("{" + name + "}", value)
        return text


class Option(_Part):
    """Something of a component that a client may update (``AbstractOption`` and its four kinds).

    ``values`` belongs to ``uri:enum-value-option``, ``pattern`` to ``uri:string-value-option``; ``min``,
    ``max`` and ``units`` belong to ``uri:integer-value-option`` and ``uri:integer-delta-option``.
    """

    kind: str
    path: str
    values: list[str] | None = None
    pattern: str | None = None
    min: int | None = None
    max: int | None = None
    units: str | None = None


class Meta(_Part):
    """Metadata of a component (``ComponentMetadata``).

    Attributes:
        broker: native: whose offer or session it is, where an aggregator passes it on.
    """

    uuid: UUID | None = None
    name: str | None = None
    url: str | None = None
    description: str | None = None
    created: Instant | None = None
    modified: Instant | None = None
    messages: list[Message] | None = None
    options: list[Option] | None = None
    broker: str | None = None


class CostOrMetric(_Part):
    """A cost or metric with optional bounds (``SimpleMinMaxFloatCost``, ``SimpleMinMaxFloatMetric``)."""

    kind: str
    type: str | None = None
    description: str | None = None
    min: float | None = None
    max: float | None = None


class Component(_Part):
    """What every component has (``AbstractComponent`` and ``LifecycleComponent``)."""

    kind: str
    meta: Meta | None = None
    phase: LifecyclePhase | None = None
    schedule: Schedule | None = None
    costs: list[CostOrMetric] | None = None
    metrics: list[CostOrMetric] | None = None


class StartDuration(_Part):
    """A start and a duration; ``start`` is an instant for preparing and releasing, an interval for
    available (``ScheduleStartDurationInstant``, ``ScheduleStartDurationInterval``)."""

    start: str | None = None
    duration: str | None = None


class RequestedSchedule(_Part):
    """When the client wants to run (``RequestedScheduleItem``): ISO 8601 duration and start interval."""

    duration: str | None = None
    start: str | None = None


class Schedule(_Part):
    """When each part of a life cycle happens (``LifecycleSchedule``, ``ScheduledExecutionSchedule``).

    Native: ``requested`` echoes what the client asked for.
    """

    preparing: StartDuration | None = None
    available: StartDuration | None = None
    releasing: StartDuration | None = None
    requested: RequestedSchedule | None = None


class RequestedScheduleBlock(_Part):
    """Wrapper of :class:`RequestedSchedule` in an ExecutionRequest."""

    requested: RequestedSchedule | None = None


class MinMax(_Part):
    """A range of whole numbers: cores, or GiB.

    Native: ``min_bytes`` and ``max_bytes`` (memory and storage only) carry sizes finer than a GiB.
    """

    min: int | None = None
    max: int | None = None
    min_bytes: int | None = Field(None, alias="minBytes")
    max_bytes: int | None = Field(None, alias="maxBytes")


class Volume(_Part):
    """A place in the session's file system where a data resource appears (``SimpleVolumeMount``).

    ``path`` is chosen by the client and absolute. Native: ``copy`` asks for a private writable copy (mode
    READWRITE without it means the resource itself is updated in place).
    """

    kind: str = SIMPLE_VOLUME
    meta: Meta | None = None
    path: str | None = None
    mode: Literal["READONLY", "READWRITE"] = "READONLY"
    resource: str | None = None
    costs: list[CostOrMetric] | None = None
    metrics: list[CostOrMetric] | None = None
    private_copy: bool | None = Field(None, alias="copy")


class Compute(Component):
    """Cores, memory (GiB) and mounts (``SimpleComputeResource``).

    Native: ``gpus``, a number of devices; version 1.0 of the standard has cores and memory only.
    """

    kind: str = SIMPLE_COMPUTE
    cores: MinMax | None = None
    memory: MinMax | None = None
    gpus: MinMax | None = None
    volumes: list[Volume] | None = None


class Storage(Component):
    """Scratch space, GiB (``SimpleStorageResource``)."""

    kind: str = SIMPLE_STORAGE
    size: MinMax | None = None
    data: list[str] | None = None


class Keep(_Part):
    """Native: asks the node to keep an output where it is made.

    Attributes:
        lease: ISO 8601 duration, from the end of the session; absent: what the node thinks best.
        checksums: algorithms beside SHA-1: ``md5``, ``sha256``, ``sha512``, ``adler32``.
    """

    lease: str | None = None
    checksums: list[str] | None = None


class Kept(_Part):
    """Native, told by the node: an output that it keeps, as it was at the end of the session.

    Attributes:
        manifest: URL of its manifest (:mod:`wes_bridge.model.manifest`).
        file: name of the one file that the output is; absent: it is a directory.
        entries, files, bytes: lines of the manifest, regular files, and bytes of them.
        expires: when its lease runs out, unless it is renewed.
    """

    manifest: str | None = None
    file: str | None = None
    entries: int
    files: int
    size: int = Field(alias="bytes")
    expires: Instant


class Checksum(_Part):
    """As upstream's of the SKA Observatory's data: ``sha256``, ``adler32``, ..., and hex digits."""

    type: str
    value: str


class Data(Component):
    """A data resource; which fields matter depends on ``kind``.

    ``location`` belongs to simple-data-resource: ``file:``, ``http(s):``, ``data:`` (native, literals).
    Native: ``access`` says how the node treats it: READ (default) stages it in; WRITE leaves it empty and
    transfers what is there to ``location`` while RELEASING (upstream plan, "WRITE-ONLY"); ``directory``
    says it is a directory; ``keep``, with WRITE and in place of ``location``, has the node keep it, which
    then tells where in ``location``, and what in ``kept``; ``size`` (bytes) and ``checksum`` say how a file
    that is fetched must be.
    """

    kind: str = SIMPLE_DATA
    location: str | None = None
    storage: str | None = None
    access: Literal["READ", "WRITE"] | None = None
    directory: bool | None = None
    keep: Keep | None = None
    kept: Kept | None = None
    size: int | None = None
    checksum: Checksum | None = None


class Image(_Part):
    """A container image: locations in order of preference, and a digest (``DockerImageSpec``).

    Native: ``pull`` false asks for an image that is at the node already, and for no other of that name.
    """

    locations: list[str] | None = None
    digest: str | None = None
    platform: dict[str, str] | None = None
    pull: bool | None = None


class Network(_Part):
    """Ports to publish. Native: ``access`` false asks for no network at all."""

    ports: list[dict[str, Any]] | None = None
    access: bool | None = None


class Stream(_Part):
    """Native, after the upstream plan for ``executable.streams``: one of stdin, stdout, stderr.

    Attributes:
        path: stdin: absolute path in the session's file system read as standard input; stdout, stderr:
            path relative to ``workdir`` that the stream is written to, as well as being kept for
            ``GET /streams/{uuid}/{name}``.
        destination: stdout, stderr: URL of a file the text is kept in, from the command's start where the
            node can (a ``file:`` URL on its own file system), else at its end.
        locations: URLs where the stream's text can be read; set by the node.
    """

    path: str | None = None
    destination: str | None = None
    locations: list[str] | None = None


class Streams(_Part):
    """Native: the three standard streams of the command."""

    stdin: Stream | None = None
    stdout: Stream | None = None
    stderr: Stream | None = None


class Executable(Component):
    """What to run; which fields matter depends on ``kind`` (``DockerContainer`` and its siblings).

    Native fields:
        workdir: absolute path in the session's file system where the command starts.
        root: absolute path below which ``workdir`` and all volume paths lie; a platform without a
            file-system view of its own (process) maps it to a directory of the session, in the command,
            in the environment and in ``data:`` literals, and back in the files named by ``rewrite``.
        rewrite: paths, relative to ``workdir``, of files written by the command that may mention paths.
        streams: standard streams.
        time_limit: seconds the command may run, 1 or more; absent for no limit.
        success_codes: exit codes that mean success; 0 when absent.
        exit_code, started, finished: told by the node.
        image_required: false when the image is only a hint.
    """

    image: Image | None = None
    location: str | None = None
    privileged: bool | None = None
    command: list[str] | None = None
    entrypoint: str | None = None
    environment: dict[str, str] | None = None
    network: Network | None = None
    workdir: str | None = None
    root: str | None = None
    rewrite: list[str] | None = None
    streams: Streams | None = None
    time_limit: int | None = Field(None, alias="timeLimit")
    success_codes: list[int] | None = Field(None, alias="successCodes")
    exit_code: int | None = Field(None, alias="exitCode")
    started: Instant | None = None
    finished: Instant | None = None


class ExecutionRequest(_Part):
    """What a client asks offers for (``ExecutionRequest``)."""

    executable: Executable | None = None
    compute: Compute | None = None
    storage: list[Storage] | None = None
    data: list[Data] | None = None
    schedule: RequestedScheduleBlock | None = None
    costs: list[CostOrMetric] | None = None
    metrics: list[CostOrMetric] | None = None


class Session(_Part):
    """An offer, and once accepted a session (``ScheduledExecutionSession``).

    Native, told by the node: ``advance``, it starts sooner when room is freed before its time; ``reached``,
    when it came to each phase.
    """

    kind: str = SCHEDULED_SESSION
    meta: Meta = Field(default_factory=Meta)
    phase: Phase = Phase.INITIAL
    expires: Instant | None = None
    executable: Executable | None = None
    compute: Compute | None = None
    storage: list[Storage] | None = None
    data: list[Data] | None = None
    schedule: Schedule | None = None
    costs: list[CostOrMetric] | None = None
    metrics: list[CostOrMetric] | None = None
    advance: bool | None = None
    reached: dict[Phase, Instant] | None = None
    connectors: list[dict[str, Any]] | None = None


class OfferSet(_Part):
    """Answer to an ExecutionRequest (``OfferSetResponse``): YES with offers, or NO with messages."""

    kind: str = OFFERSET
    meta: Meta = Field(default_factory=Meta)
    result: Literal["YES", "NO"] = "NO"
    description: str | None = None
    offers: list[Session] | None = None


class Update(_Part):
    """Change of one value of a session (``AbstractUpdate`` and its four kinds)."""

    kind: Literal[
        "uri:enum-value-update",
        "uri:string-value-update",
        "uri:integer-value-update",
        "uri:integer-delta-update",
    ]
    path: str
    value: str | int | None = None
    delta: int | None = None
    units: str | None = None


Component.model_rebuild()


def dump(part: BaseModel) -> dict[str, Any]:
    """The wire form of a part: JSON types, wire names, no nulls."""
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)


def phase_update(phase: Phase) -> Update:
    """The update that asks a broker to bring a session to ``phase``."""
    return Update(kind="uri:enum-value-update", path="/phase", value=phase.value)
