"""A StepPlan: one CWL step as a platform-neutral, serialisable description of a command and its files.

The engine makes it, ``federation`` renders it to an ExecutionRequest in a broker's dialect. Paths below
``root`` are those of the session's own file system, wherever it will be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from wes_bridge.model.containers import Containers
from wes_bridge.model.preferences import NO_WISH, Wish


class StageMode(StrEnum):
    """How the command may treat a staged file or directory."""

    READ = "READ"
    """It must not be changed."""
    COPY = "COPY"
    """A private copy that may be changed (InitialWorkDirRequirement, ``writable: true``)."""
    INPLACE = "INPLACE"
    """The original is changed (InplaceUpdateRequirement)."""


@dataclass(frozen=True)
class StagedFile:
    """One file or directory placed in the session's file system.

    Attributes:
        path: absolute path where it appears.
        url: where it comes from; None for a literal or an empty directory.
        contents: text of a literal; None otherwise.
        directory: whether it is a directory (empty when there is no ``url``).
        mode: how it may be treated.
        size: bytes, where it is known.
        checksum: as CWL writes it (``sha1$...``), where it is known.
    """

    path: str
    url: str | None = None
    contents: str | None = None
    directory: bool = False
    mode: StageMode = StageMode.READ
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Resources:
    """What the step asks for. None means not said: the node's default, and no limit enforced.

    Cores may be fractions as CWL allows; sizes are bytes.
    """

    cores_min: float = 1
    cores_max: float | None = None
    memory_min: int | None = None
    memory_max: int | None = None
    scratch_min: int | None = None


@dataclass(frozen=True)
class Booking:
    """The time that nodes are asked for when the workflow does not say how long a step takes.

    Attributes:
        seconds: as long is asked for.
        more_than: a booking of so many seconds was too short for this step already.
    """

    seconds: float
    more_than: float = 0.0


@dataclass(frozen=True)
class StepPlan:
    """Everything a node needs to run one step.

    Attributes:
        name: of the step in its run, for people: ``measure[3]`` or ``sub/plot``.
        argv: the command.
        environment: variables, HOME and TMPDIR included, PATH not.
        root: directory of the session's file system below which all other paths lie, except those that a
            container image demands.
        workdir: where the command starts and what is there afterwards is the output.
        output_url: where the content of ``workdir`` goes; a URL that ends with the new directory's name.
        stdin: absolute path read as standard input.
        stdout, stderr: path relative to ``workdir`` that the stream is written to.
        stdout_url, stderr_url: where the stream's text is kept when it is not redirected to a file.
        staged: files and directories placed before the command starts.
        resources: cores, memory, scratch.
        time_limit: seconds the command may take; None for no limit.
        network: whether the command needs the network.
        image: container image; None for a plain process.
        image_required: whether a plain process will not do.
        containers: whether commands run in the images that tools name, as site and run say together.
        image_is_there: whether the tool names an image by which nodes know it, and none to pull.
        left_out: the image that the tool hints at, where ``containers`` is ``never``.
        success_codes: exit codes that mean success.
        temporary_codes: exit codes of failures that may pass: the command is run again.
        rewrite: files in ``workdir`` that may mention paths and are read by the engine.
        wish: how the node is to be chosen.
        booking: the time to ask for where neither ``time_limit`` nor ``wish`` says one; chosen while the
            step is placed, so that all nodes are asked for the same.
    """

    name: str
    argv: list[str]
    environment: dict[str, str]
    root: str
    workdir: str
    output_url: str
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdout_url: str | None = None
    stderr_url: str | None = None
    staged: list[StagedFile] = field(default_factory=list)
    resources: Resources = Resources()
    time_limit: int | None = None
    network: bool = False
    image: str | None = None
    image_required: bool = False
    containers: Containers = "preferred"
    image_is_there: bool = False
    left_out: str | None = None
    success_codes: list[int] = field(default_factory=lambda: [0])
    temporary_codes: list[int] = field(default_factory=list)
    rewrite: list[str] = field(default_factory=lambda: ["cwl.output.json"])
    wish: Wish = NO_WISH
    booking: Booking | None = None

    @property
    def said_time(self) -> float | None:
        """Seconds that the step takes at most, as far as the workflow or its user says so."""
        if self.time_limit:
            return float(self.time_limit)
        return self.wish.duration.total_seconds() if self.wish.duration else None

    @property
    def asked_time(self) -> float | None:
        """Seconds that nodes are asked for; None: nothing is said, and each takes its own default."""
        return self.said_time or (self.booking.seconds if self.booking else None)


@dataclass(frozen=True)
class Times:
    """When a step's session got where, in seconds since the epoch; None: its broker does not say.

    Attributes:
        accepted: its offer was accepted.
        preparing: its turn came; from then on its inputs were staged.
        started, finished: of the command.
        ended: its outputs were where they belong.
    """

    accepted: float | None = None
    preparing: float | None = None
    started: float | None = None
    finished: float | None = None
    ended: float | None = None

    def between(self, earliest: float, latest: float) -> Times:
        """The same, moved as a whole to between two moments: a node's clock may differ from ours."""
        told = [when for when in vars(self).values() if when is not None]
        if not told:
            return self
        by = max(0.0, earliest - min(told)) or min(0.0, latest - max(told))
        moved = {
            name: None if when is None else min(max(when + by, earliest), latest)
            for name, when in vars(self).items()
        }
        return Times(**moved)


@dataclass(frozen=True)
class StepOutcome:
    """How a step's session ended.

    Attributes:
        exit_code: of the command; None when it never ended by itself.
        output_dir: the ``file://`` URL of what ``workdir`` held; None when nothing came back.
        problem: why there is no exit code, or why it is what it is, in words for the user.
        by_command: the problem is the command's own (too much time or memory), not the node's.
        out_of_memory: it is that the command used more memory than it asked for.
        unsupported: no node can ever run it: it asks for containers and there are none.
        booked: seconds of the booking whose end ended the command; None: it was not that.
        times: when its session got where, as far as its broker says.
        hint: what the command may have failed for, in words for the user.
    """

    exit_code: int | None = None
    output_dir: str | None = None
    problem: str | None = None
    by_command: bool = False
    out_of_memory: bool = False
    unsupported: bool = False
    booked: float | None = None
    times: Times = field(default=Times(), compare=False)
    hint: str | None = None
