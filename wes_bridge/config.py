"""What can be configured, with defaults that make ``wes-bridge serve`` work with no configuration at all.

Only the shape and the defaults are here, as pydantic models; reading files, environment and flags (in that
order of precedence, lowest first) is ``cli.settings``. It must not import any room but the vocabulary,
``model``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from wes_bridge.model.access import (
    LOOPBACK_PROXIES,
    AuthenticationConfig,
    TlsConfig,
    is_loopback,
    open_door,
)
from wes_bridge.model.audit import AuditConfig
from wes_bridge.model.containers import Containers
from wes_bridge.model.delegation import DelegatedTo, DelegationConfig
from wes_bridge.model.limits import LimitsConfig
from wes_bridge.model.preferences import Preferences
from wes_bridge.model.stores import (
    DataPluginConfig,
    S3Config,
    WebdavConfig,
    WebFolderConfig,
    WorkspaceStoreConfig,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Period = Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(days=3660))]
"""An ISO 8601 duration (PT15M), or seconds."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


SHOWN_SYSTEM = "system"
"""The word in ``sandbox_shows`` for the system's programs and libraries."""


def _shown(path: Path) -> Path:
    return path if str(path) == SHOWN_SYSTEM else _absolute(path)


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
_SOCKET_FOLDER = 70
"""Bytes of a folder's path that leave room for the names of sockets in it."""


_ONE_CPU = "whether threads are kept on one CPU while they are busy; false: the system places them"


_LIMITS = "how much a user may have: default, by group, by user"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerConfig(_Section):
    """What all servers have: where they listen, and who is let in."""

    host: str = "127.0.0.1"
    public_url: AnyHttpUrl | None = Field(None, description="when behind a proxy: what clients call it")
    tls: TlsConfig | None = Field(None, description="the certificate, where the server itself encrypts")
    behind_proxy: bool = Field(False, description="whether clients come through a proxy, which encrypts")
    trusted_proxies: list[str] = Field(
        list(LOOPBACK_PROXIES),
        description="addresses or networks (CIDR) of proxies, whose Forwarded and X-Forwarded-* headers are"
        " believed",
    )
    authentication: AuthenticationConfig = Field(AuthenticationConfig(), description="who is let in")
    audit: AuditConfig = AuditConfig()

    @property
    def stands_open(self) -> str | None:
        """What is wrong when other machines can reach it, and it does not look who they are."""
        return open_door(self.host, self.authentication, self.tls is not None or self.behind_proxy)


class Range(_Section):
    """A figure a node quotes: between ``min`` and ``max`` (see :class:`Quotes` for units)."""

    min: float = 0.0
    max: float = 0.0


class Quotes(_Section):
    """What a node says of itself in its offers. Costs are per hour of session."""

    monetary: Range | None = Field(None, description="price per hour, in the site's currency")
    energy: Range | None = Field(None, description="kWh per hour")
    carbon: Range | None = Field(None, description="grams of CO2 per hour")
    compute_performance: Range | None = Field(None, description="relative, higher is faster")
    io_throughput: Range | None = Field(None, description="MB/s")


class BookingConfig(_Section):
    """When a node lets sessions run, and how far ahead it promises to."""

    mode: Literal["queue", "slots"] = Field(
        "queue", description="queue: as soon as free, nothing is promised; slots: a calendar of bookings"
    )
    slot: Period = Field(timedelta(hours=1), description="bookings start on multiples of this, or at once")
    horizon: Period = Field(timedelta(hours=24), description="bookings end within this time from now")
    offers: Annotated[int, Field(gt=0, le=100)] = Field(4, description="alternatives offered to a request")
    default_duration: Period = Field(
        timedelta(hours=2), description="length of a booking when the request names none; its end is enforced"
    )
    advance: bool = Field(
        True, description="who took the earliest offer starts sooner when room is freed before its time"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.slot > self.horizon:
            raise ValueError("slot must not be longer than horizon")
        if self.mode == "slots" and self.default_duration > self.horizon:
            raise ValueError("default_duration must not be longer than horizon")
        return self


class NodeFetchConfig(_Section):
    """Where a node's inputs may come from and its outputs may be sent over HTTP, and how slow that may be."""

    private_hosts: list[str] = Field(
        default_factory=list,
        description="host names, addresses or networks (CIDR) that may be contacted though they are private,"
        " with :port too; 'any' lifts the guard; hosts that data names are allowed already",
    )
    timeout: Seconds = Field(30.0, description="seconds without progress until a transfer is given up")
    deadline: Seconds = Field(86400.0, description="seconds one transfer may take in all")
    least_rate: float = Field(
        1024.0, ge=0, description="bytes a second, averaged over timeout, that a transfer must keep"
    )
    max_bytes: int | None = Field(None, gt=0, description="of one input; default: no limit")
    ca_file: AbsolutePath | None = Field(
        None, description="certificates (PEM) of authorities that are believed beside the public ones"
    )


class KeptConfig(_Section):
    """Outputs that a node keeps where they were made, and how they are handed out (docs/kept-outputs.md)."""

    gib: Annotated[float, Field(gt=0)] | None = Field(
        None, description="GiB kept in all; default: storage_gib, and where that is not set all that is free"
    )
    lease: Period = Field(timedelta(hours=1), description="of outputs for which none is asked")
    max_lease: Period = Field(timedelta(days=7), description="the longest; longer ones are cut to it")
    url_lifetime: Period = Field(timedelta(hours=1), description="of signed URLs for which none is asked")
    max_url_lifetime: Period = Field(
        timedelta(hours=24), description="the longest; longer ones are cut to it"
    )
    rotate_keys: Period = Field(timedelta(days=1), description="how long URLs are signed with one key")


class NodeConfig(ServerConfig):
    """One ExecutionBroker node (``wes-bridge node``, or embedded in ``wes-bridge serve``)."""

    name: Name = "local"
    port: Port = Field(0, description="0 picks a free port")
    state_dir: Path | None = Field(None, description="sessions and database; default: below the service's")
    platforms: list[str] = ["process", "container"]
    sandbox: Literal["auto", "bwrap", "own", "none"] = Field(
        "auto",
        description="isolation of plain processes: auto uses the node's own sandbox, or bubblewrap's where"
        " that cannot be made",
    )
    sandbox_shows: list[Annotated[Path, AfterValidator(_shown)]] = Field(
        [Path(SHOWN_SYSTEM)],
        description="what a sandboxed process can see, read-only, besides its own files and the programs on"
        " the node's PATH: paths, and the word system for the system's programs and libraries",
    )
    step_network: Literal["auto", "isolated", "machine"] = Field(
        "auto",
        description="of steps that use the network: isolated keeps the machine's loopback interface out of"
        " their reach, auto does where that works, machine does not",
    )
    container_engine: str | None = Field(None, description="podman, docker or a path; default: what is there")
    pull_images: bool = Field(True, description="false: only images already here are offered")
    images: dict[str, str] = Field(default_factory=dict, description="image name in requests -> image here")
    cores: Annotated[int, Field(gt=0)] | None = Field(None, description="to offer; default: all")
    memory_gib: Annotated[float, Field(gt=0)] | None = Field(None, description="to offer; default: all")
    storage_gib: Annotated[float, Field(gt=0)] | None = Field(
        None, description="of scratch space to hand out; default: what is free on the disk, for each request"
    )
    max_processes: Annotated[int, Field(gt=0)] = Field(2048, description="processes of one session at once")
    session_gib: Annotated[float, Field(gt=0)] | None = Field(
        None, description="GiB that one session may have on the disk while it runs; default: all that is free"
    )
    gpus: Annotated[int, Field(ge=0)] = Field(0, description="to hand out; they are counted, not assigned")
    booking: BookingConfig = BookingConfig()
    max_running: Annotated[int, Field(gt=0)] | None = Field(
        None, description="sessions at once; default: by cores"
    )
    quotes: Quotes = Quotes()
    offer_lifetime: Seconds = Field(300.0, description="seconds until an offer expires")
    open_offers: int = Field(
        10_000, gt=0, description="offer sets that nobody has taken yet; above it, the oldest expire early"
    )
    limits: LimitsConfig = Field(LimitsConfig(), description=_LIMITS)
    data: list[str] = Field(
        ["file:///", "http://", "https://", "data:"], description="URL prefixes of inputs it can stage"
    )
    fetch: NodeFetchConfig | None = Field(
        None, description="private hosts and limits of HTTP transfers; default: in serve, the service's"
    )
    s3: list[S3Config] = Field(
        default_factory=list, description="object stores it stages from, beside data (docs/storage.md)"
    )
    webdav: list[WebdavConfig] = Field(
        default_factory=list, description="WebDAV folders it stages from, beside data (docs/storage.md)"
    )
    web: list[WebFolderConfig] = Field(
        default_factory=list, description="web addresses that want a token of the user (docs/storage.md)"
    )
    delegation: DelegationConfig = Field(
        DelegationConfig(), description="as whom issuers are asked for tokens of users for webdav and web"
    )
    data_plugins: list[DataPluginConfig] = Field(
        default_factory=list, description="other ways to stage, brought by other packages"
    )
    cache_gib: Annotated[float, Field(ge=0)] = Field(
        0.0, description="GiB of downloads kept for later sessions; those not used for longest go first"
    )
    max_body: int = Field(64 * 1024**2, gt=0, description="bytes of a request body")
    max_rewrite: int = Field(
        16 * 1024**2, gt=0, description="bytes of a cwl.output.json, which the node writes paths into"
    )
    keep_sessions: Seconds = Field(7 * 86400.0, description="seconds ended sessions are remembered")
    kept: KeptConfig = Field(KeptConfig(), description="outputs that stay at the node")
    many_users: bool = Field(
        False, description="whether commands of several people run here; serve knows it of its own nodes"
    )
    one_cpu: bool = Field(True, description=_ONE_CPU)

    @property
    def reads(self) -> list[str]:
        """The beginnings of all URLs that it stages from, plug-ins' aside: what a broker's ``data`` is."""
        objects = [f"s3://{area}/" for store in self.s3 for area in store.read]
        return [*self.data, *objects, *(folder.url for folder in self.webdav)]

    @property
    def serves_others(self) -> str | None:
        """Why others than the person whose machine it is may run commands here; None when nobody else may."""
        if self.many_users:
            return "several people run commands here"
        return _reached_by_others(self)

    @property
    def shows_all_files(self) -> str | None:
        """What is wrong when other machines can reach it and nobody said which files are for them."""
        if "data" in self.model_fields_set or is_loopback(self.host):
            return None
        return (
            f"{self.host or 'every address'} can be reached from other machines, and by default a node stages"
            " every file that the node's user can read, for anyone who asks; list what may be staged and"
            " written (data: [file:///srv/shared/, 'https://', 'data:'], or --data for each), or listen on"
            " 127.0.0.1"
        )


def _reached_by_others(config: ServerConfig) -> str | None:
    """How other people come to a server: over the network, through a proxy, or as users of their own."""
    if not is_loopback(config.host):
        return f"{config.host or 'every address'} can be reached from other machines"
    if config.public_url is not None:
        return f"others come by way of {config.public_url}"
    if config.authentication != AuthenticationConfig():
        return "there are users who log in"
    return None


class CredentialsConfig(_Section):
    """Where a broker's secret is: in a variable of the environment, or in a file that is read again now and
    then. With ``username`` it is a password (HTTP Basic), else a bearer token."""

    env: str | None = Field(None, min_length=1, description="name of the variable that holds the secret")
    file: Path | None = Field(None, description="file that holds the secret")
    username: str | None = Field(None, min_length=1, pattern=r"^[^:]+$", description="for HTTP Basic")

    @model_validator(mode="after")
    def _one_place(self) -> CredentialsConfig:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file: the place of the secret")
        return self


class ImageConfig(_Section):
    """What a broker calls an image: places to pull it from, best first, and its digest."""

    locations: list[str] = Field(min_length=1, description="references; the first that works is used")
    digest: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$", description="sha256:<64 hex digits>")


class BrokerTraits(_Section):
    """What can be said of a broker in the configuration as well as in a listing."""

    name: Name
    url: AnyHttpUrl
    dialect: Literal["native", "reference", "auto"] = Field(
        "native", description="auto: an aggregator finds it out; for its own brokers only"
    )
    shares_files: bool = Field(
        True,
        description="whether its nodes see this service's files at the same paths; else files go over HTTP,"
        " both ways (docs/data.md)",
    )
    direct: bool = Field(
        True,
        description="where files go over HTTP: whether its nodes and those of others may fetch from one"
        " another; else files go by way of the workspace",
    )
    data: list[str] | None = Field(None, description="URL prefixes of files it can reach; default: all")
    holds: list[str] = Field(default_factory=list, description="URL prefixes of files that are there already")
    images: dict[str, str | ImageConfig] = Field(
        default_factory=dict, description="image name in workflows -> image there"
    )
    registries: list[str] | None = Field(
        None, description="prefixes of image names it can pull beside images; default: all"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="for users' only and never: key=value")
    hosts: list[str] = Field(
        default_factory=list, description="other hosts its sessions may be at; they get no credentials"
    )

    @field_validator("url")
    @classmethod
    def _no_secrets(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        if url.username or url.password:
            raise ValueError("a URL must not hold a password: use credentials")
        return url


class BrokerConfig(BrokerTraits):
    """An ExecutionBroker the service asks for offers; what is here a listing cannot say."""

    credentials: CredentialsConfig | None = None
    delegation: DelegatedTo | None = Field(
        None, description="the token of the user that it wants to see (docs/delegation.md)"
    )
    shared: dict[Path, PurePosixPath] = Field(
        default_factory=dict,
        description="reference: folders here that its container engine sees too, and their names there",
    )
    max_sessions: int = Field(8, gt=0, description="reference: sessions at once of each engine worker")
    max_output_gib: float = Field(
        1024.0, gt=0, description="reference, without shared files: what a step may send to the service"
    )

    @model_validator(mode="after")
    def _absolute(self) -> BrokerConfig:
        if self.shared and not self.shares_files:
            raise ValueError(
                f"broker {self.name}: shares_files: false says that it shares no folder; leave out shared, or"
                " that"
            )
        if not all(path.is_absolute() for pair in self.shared.items() for path in pair):
            raise ValueError(f"broker {self.name}: shared folders must be absolute paths")
        return self


class ListingConfig(_Section):
    """A listing of brokers, read at start and again every ``refresh`` seconds (see docs/brokers.md)."""

    file: Path | None = Field(None, description="path of a YAML or JSON listing")
    url: AnyHttpUrl | None = Field(None, description="URL of a YAML or JSON listing")
    refresh: Seconds = Field(300.0, description="seconds between looks at it")
    credentials: CredentialsConfig | None = Field(None, description="for the listed brokers on trusted_hosts")
    trusted_hosts: list[str] = Field(
        default_factory=list, description="hosts that are sent the credentials; *.example.org for a domain"
    )

    @model_validator(mode="after")
    def _one_place(self) -> ListingConfig:
        if (self.file is None) == (self.url is None):
            raise ValueError("give either file or url: where the listing is")
        return self


class ImageDetails(_Section):
    """What an aggregator knows of a container image that requests name."""

    digest: str | None = Field(None, description="sha256:...; for requests that give none")
    locations: list[str] = Field(
        default_factory=list, description="where it can be pulled from, best first; default: as named"
    )


class Replica(_Section):
    """One copy of a collection of data."""

    url: str = Field(description="what stands here instead of the logical prefix")
    brokers: list[Name] = Field(default_factory=list, description="who can read it; default: all")


class DataReplicas(_Section):
    """Where data lives whose URLs have a logical prefix."""

    prefix: str = Field(min_length=1, description="start of logical URLs in requests")
    replicas: list[Replica] = Field(min_length=1, description="the first a broker can read is used")


class RequestDefaults(_Section):
    """What a request gets that does not say."""

    cores: Annotated[int, Field(gt=0)] | None = Field(None, description="cores, at least")
    memory_gib: Annotated[int, Field(gt=0)] | None = Field(None, description="GiB of memory, at least")
    duration: str | None = Field(None, description="how long it may run, ISO 8601: PT2H")


class AggregatorConfig(ServerConfig):
    """An ExecutionBroker that asks others (``wes-bridge aggregate``, or part of ``serve``)."""

    name: Name = "aggregator"
    port: Port = Field(0, description="0 picks a free port")
    state_dir: Path | None = Field(None, description="its database; default: below the service's")
    brokers: list[BrokerConfig] = Field(
        default_factory=list, description="who is asked; in serve, when empty: all nodes and brokers of it"
    )
    deadline: Seconds = Field(4.0, description="seconds brokers have to make offers")
    offers: int = Field(10, gt=0, description="offers passed on, the best ones")
    limits: LimitsConfig = Field(LimitsConfig(), description=_LIMITS)
    max_hops: int = Field(8, gt=0, description="aggregators a request may have come through")
    images: dict[str, ImageDetails] = Field(default_factory=dict, description="by the name in requests")
    data: list[DataReplicas] = Field(default_factory=list, description="the longest prefix counts")
    defaults: RequestDefaults = RequestDefaults()
    max_body: int = Field(64 * 1024**2, gt=0, description="bytes of a request body")
    max_answer: int = Field(64 * 1024**2, gt=0, description="bytes of a broker's answer, streams aside")
    keep_sessions: Seconds = Field(
        7 * 86400.0, description="seconds sessions are remembered after they were last asked for"
    )
    one_cpu: bool = Field(True, description=_ONE_CPU)


class FetchConfig(_Section):
    """What workflows and their inputs may refer to outside their own attachments."""

    files: list[Path] = Field(
        default_factory=list, description="folders of this machine that file:// URLs may point into"
    )
    only_named: bool = Field(
        False,
        description="of files, only what the job or a document names, not what expressions make up: for a"
        " private service",
    )
    private_hosts: list[str] = Field(
        default_factory=list,
        description="host names or networks (CIDR) that may be fetched from though they are private,"
        " with :port too; 'any' lifts the guard",
    )
    timeout: Seconds = Field(30.0, description="seconds without progress until a fetch is given up")
    deadline: Seconds = Field(600.0, description="seconds one fetch may take in all, redirects included")
    least_rate: float = Field(
        1024.0, ge=0, description="bytes a second, averaged over timeout, that a fetch must keep"
    )
    max_bytes: int = Field(256 * 1024**2, gt=0, description="of one fetched CWL document or input")
    ca_file: AbsolutePath | None = Field(
        None, description="certificates (PEM) of authorities that are believed beside the public ones"
    )
    s3: list[S3Config] = Field(
        default_factory=list,
        description="object stores that the service itself looks into, where loadContents or a listing asks"
        " for it (docs/data.md); inputs are handed on to nodes with or without it",
    )

    @property
    def for_nodes(self) -> NodeFetchConfig:
        """What embedded nodes do that have no such section of their own."""
        return NodeFetchConfig(
            private_hosts=self.private_hosts,
            timeout=self.timeout,
            least_rate=self.least_rate,
            ca_file=self.ca_file,
        )


class EventsConfig(_Section):
    """Telling clients and webhooks how runs go."""

    max_listeners: int = Field(5000, gt=0, description="streams of events open at once")
    webhook_states: list[Literal["INITIALIZING", "RUNNING", "CANCELING"]] = Field(
        default_factory=list, description="told to webhooks beside final states where the run does not say"
    )
    webhook_timeout: Seconds = Field(10.0, le=300, description="seconds a receiver has to answer")
    webhook_give_up: Period = Field(timedelta(hours=24), description="how long a delivery is tried again")


class EngineConfig(_Section):
    """The workers that walk workflows."""

    workers: Annotated[int, Field(ge=0)] = Field(1, description="engine processes started by serve")
    max_runs: int = Field(1000, gt=0, description="runs one worker holds at once")
    max_runs_in_all: int | None = Field(
        None, gt=0, description="runs all workers together hold at once; default: no limit"
    )
    max_steps: int = Field(256, gt=0, description="steps of one run in flight at once")
    lease: Seconds = Field(30.0, description="seconds until a silent worker's runs are taken over")
    offer_deadline: Seconds = Field(5.0, description="seconds brokers have to make offers")
    offer_grace: float = Field(
        1.0, ge=0, description="seconds the others have once an acceptable offer has come"
    )
    lost_after: Seconds = Field(60.0, description="seconds a node may be silent until its session is lost")
    transfer_rate: float = Field(
        100.0,
        gt=0,
        description="MiB a second at which inputs are taken to move to a node that shares no files, when"
        " offers are compared",
    )
    keep_intermediates: bool = Field(
        False,
        description="whether nodes that share no files keep the outputs of steps until the run has"
        " ended, also when no step needs them any more",
    )
    outputs_stay: Period = Field(
        timedelta(days=7),
        description="how long nodes are asked to keep outputs that a run leaves there (outputs=stay)",
    )
    bring_at_once: int = Field(
        1024**2,
        ge=0,
        description="bytes of an output that are fetched when its session has ended, from a node that shares"
        " no files; a larger one stays there until it is needed",
    )
    bring_gib: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="GiB that one run may bring to the workspace from nodes that share no files; default: all"
        " that is free",
    )
    default_duration: Period = Field(
        timedelta(hours=2),
        description="time asked of every node for a step whose workflow does not say how long it takes",
    )
    patience: float = Field(60.0, ge=0, description="seconds a step waits for nodes that do not answer")
    expression_timeout: Seconds = Field(
        20.0, description="seconds of processor time one JavaScript expression may take"
    )
    load_timeout: Seconds = Field(60.0, description="seconds of processor time that loading a run may take")
    load_wall: Seconds = Field(
        600.0, description="seconds that loading a run may take, what it fetches included"
    )
    load_memory_gib: Annotated[float, Field(gt=0)] = Field(
        1.0, description="GiB of memory that loading a run may take"
    )
    max_output_object: int = Field(16 * 1024**2, gt=0, description="bytes of a step's cwl.output.json")
    give_up_after: int = Field(
        5, gt=0, description="workers that may die of a run, one after the other, before it is given up"
    )
    max_tasks: int = Field(1_000_000, gt=0, description="steps of one run, all elements of scatters counted")
    max_scatter: int = Field(100_000, gt=0, description="jobs that one scatter may make")
    plan_timeout: Seconds = Field(60.0, description="seconds one plan (POST /runs/plan) may take")
    plans_at_once: int = Field(2, gt=0, description="plans that are made side by side; others wait")
    default_image: str | None = Field(None, description="container for tools without one, where needed")
    containers: Containers = Field(
        "preferred",
        description="images that tools name: preferred leaves one that is only a hint out where no node has a"
        " container engine, and runs may choose; required and never are rules for all runs",
    )
    policy: str = Field("earliest", description="how nodes are chosen where nobody says otherwise")
    reuse: Literal["off", "on"] = Field(
        "off", description="whether runs that do not say take results of equal steps of earlier runs"
    )
    reuse_gib: Annotated[float, Field(gt=0)] = Field(
        20.0, description="GiB of results kept for that; those not used for longest go first"
    )
    choosing: Preferences = Field(Preferences(), description="limits and weights that hold for all runs")


Days = Annotated[float, Field(ge=0, le=36600)]


class IntermediatesConfig(_Section):
    """How long what the steps of an ended run left is kept, beside the run's outputs."""

    after_success: Days | None = Field(None, description="days, of runs that are COMPLETE; default: for good")
    after_failure: Days | None = Field(None, description="days, of other runs; default: for good")


class RetentionConfig(_Section):
    """How long what is kept of runs that have ended (see docs/runs.md)."""

    keep_runs: Days | None = Field(None, description="days runs are kept, with all files; default: for good")
    keep_intermediates: IntermediatesConfig = IntermediatesConfig()
    keep_logs: Days | None = Field(None, description="days logs are kept; default: as long as the run")
    keep_local: Days | None = Field(
        None,
        description="days files of ended runs stay in the workspace once outputs_store has all of them;"
        " default: as long as the run",
    )
    every: Seconds = Field(3600.0, description="seconds between two looks")


Sharing = Literal["none", "chosen", "groups"]


class TogetherError(ValueError):
    """Settings that are wrong together; ``key`` is where a person looks for the first of them."""

    def __init__(self, text: str, *key: str | int) -> None:
        super().__init__(text)
        self.key = key


class ServiceConfig(ServerConfig):
    """``wes-bridge serve``."""

    port: Port = 8080
    state_dir: Path = Path("wes-bridge-state")
    database: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in state_dir")
    workspace: Path | None = Field(None, description="run folders; default: state_dir/workspace")
    outputs_store: WorkspaceStoreConfig | None = Field(
        None, description="where outputs of runs are kept for good (docs/storage.md); default: the workspace"
    )
    max_body: int = Field(10 * 1024**3, gt=0, description="bytes of one submission, attachments included")
    max_attachments: int = Field(10_000, gt=0)
    limits: LimitsConfig = Field(LimitsConfig(), description=_LIMITS)
    name: str = "wes-bridge"
    organization: str = "wes-bridge"
    organization_url: str = "https://example.org"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    one_cpu: bool = Field(True, description=f"of workers and all embedded parts: {_ONE_CPU}")
    delegation: DelegationConfig = DelegationConfig()
    sharing: Sharing = Field(
        "chosen",
        description="whether groups may look at runs: none; chosen: those that a run names in share_with;"
        " groups: all groups of whoever submits it",
    )
    fetch: FetchConfig = FetchConfig()
    engine: EngineConfig = EngineConfig()
    events: EventsConfig = EventsConfig()
    retention: RetentionConfig = RetentionConfig()
    nodes: list[NodeConfig] = Field([NodeConfig()], description="embedded nodes")
    brokers: list[BrokerConfig] = Field(default_factory=list, description="nodes elsewhere")
    aggregator: AggregatorConfig | None = Field(None, description="an embedded aggregator; default: none")
    listings: list[ListingConfig] = Field(default_factory=list, description="where more brokers are listed")

    @model_validator(mode="after")
    def _workspace_is_shared(self) -> ServiceConfig:
        for index, broker in enumerate(self.brokers):
            if broker.dialect == "auto":
                raise TogetherError(
                    f"broker {broker.name}: dialect is native or reference; auto is for brokers of an"
                    " aggregator",
                    *("brokers", index, "dialect"),
                )
            if broker.dialect == "reference" and broker.shares_files and not broker.shared:
                raise TogetherError(
                    f"broker {broker.name}: the reference dialect needs shared, e.g."
                    " {/srv/data: /srv/data}, or shares_files: false;"
                    " such a broker gives nothing back but what is written to a folder that both it"
                    " and we see, or what the step itself sends",
                    *("brokers", index, "dialect"),
                )
            if broker.shared and not any(self.workspace_dir.is_relative_to(path) for path in broker.shared):
                raise TogetherError(
                    f"broker {broker.name}: the workspace {self.workspace_dir} is in none of its shared"
                    " folders; steps there could not give their outputs back",
                    *("brokers", index, "shared"),
                )
        return self

    @property
    def delegates(self) -> bool:
        """Whether runs act with tokens of their owners."""
        return any(broker.delegation is not None for broker in self.brokers)

    @property
    def serves_others(self) -> str | None:
        """As of a node."""
        return _reached_by_others(self)

    @property
    def database_url(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database or f"sqlite:///{self.state_dir.absolute() / 'wes-bridge.db'}"

    @property
    def wakeup_dir(self) -> Path:
        """Where workers listen for wake-up calls: in ``state_dir``; for a deep one, in the temporary folder.

        The path of a Unix socket has 107 bytes at most.
        """
        path = self.state_dir.absolute() / "wakeup"
        if len(os.fsencode(path)) <= _SOCKET_FOLDER:
            return path
        name = f"wes-bridge-{os.getuid()}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"
        short = Path(tempfile.gettempdir()) / name
        return short if len(os.fsencode(short)) <= _SOCKET_FOLDER else Path("/tmp") / name  # noqa: S108

    @property
    def workspace_dir(self) -> Path:
        """The workspace's absolute path, the same for ``st`` and ``../here/st``."""
        path = self.workspace or self.state_dir / "workspace"
        return path.resolve() if ".." in path.parts else path.absolute()
