"""One ready step: what cwltool worked out about a tool and its inputs, as a StepPlan; and its way back."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cwltool.errors import UnsupportedRequirement, WorkflowException
from cwltool.job import JobBase
from cwltool.pathmapper import MapperEnt
from cwltool.utils import bytes2str_in_dicts, visit_files_directories
from schema_salad.exceptions import ValidationException
from schema_salad.ref_resolver import file_uri

from wes_bridge.cwl.files.linked import TooManyLinksError
from wes_bridge.cwl.files.names import check_name
from wes_bridge.cwl.files.path_mapper import UrlPathMapper
from wes_bridge.cwl.tools.context import StepContext
from wes_bridge.cwl.tools.hints import preferences_of
from wes_bridge.cwl.tools.requirements import image_of, success_codes
from wes_bridge.cwl.tools.uncollected import why_not_collected
from wes_bridge.data.workspace import url_path
from wes_bridge.model.preferences import Preferences
from wes_bridge.model.step_plan import Resources, StagedFile, StageMode, StepOutcome, StepPlan
from wes_bridge.model.units import MIB

_logger = logging.getLogger("cwltool")
_NOT_FOUND = re.compile(r"Does not exist or is not a (?:File|Directory): '(.*?)'")


@dataclass(frozen=True)
class Collected:
    """What a step's command left behind.

    Attributes:
        outputs: the output object.
        status: cwltool's word: ``success``, ``permanentFail``, ``temporaryFail``.
        problem: why the outputs of a command that ended well are not those of its tool, in words.
    """

    outputs: dict[str, Any]
    status: str
    problem: str | None = None


class BridgeJob(JobBase):
    """A job that is planned here and runs in a session elsewhere.

    Attributes:
        context: the step's context, with its place.
    """

    pathmapper: UrlPathMapper
    generatemapper: UrlPathMapper

    def __init__(self, *args: Any, context: StepContext) -> None:
        super().__init__(*args)
        self.context = context

    @property
    def key(self) -> str:
        """The step's place as text: the same in every replay of the run."""
        return self.context.key

    def _required_env(self) -> dict[str, str]:
        return {"HOME": self.builder.outdir, "TMPDIR": self.builder.tmpdir}

    def run(self, _context: Any, _tmpdir_lock: Any = None) -> None:
        """Never called: the engine plans a job and follows its session.

        Raises:
            TypeError: always.
        """
        raise TypeError("a BridgeJob is planned, not run")

    def plan(self, output_url: str) -> StepPlan:
        """What a node has to do.

        Args:
            output_url: where the output directory goes.

        Raises:
            UnsupportedRequirement: it asks for something no node can do.
            WorkflowException: the command is empty.
        """
        argv = [str(word) for word in self.command_line]
        if not argv:
            raise WorkflowException(
                f"{self.key} has an empty command line: give baseCommand, arguments or an inputBinding"
            )
        choice = image_of(self, self.context.containers)
        staged = [part for item in self._staged() for part in self._with_linked(self._checked(item))]
        _check_places(staged, self._root, in_container=choice.image is not None)
        self._check_streams(staged)
        return StepPlan(
            name=self.key,
            argv=argv,
            environment=dict(self.environment),
            root=self._root,
            workdir=self.builder.outdir,
            output_url=output_url,
            stdin=self._stdin_path(),
            stdout=self.stdout,
            stderr=self.stderr,
            staged=staged,
            resources=self._resources(),
            time_limit=self.timelimit or None,
            network=self.networkaccess,
            image=choice.image,
            image_required=choice.required,
            containers=self.context.containers,
            image_is_there=choice.is_there,
            left_out=choice.left_out,
            success_codes=success_codes(self.successCodes, self.temporaryFailCodes, self.permanentFailCodes),
            temporary_codes=sorted({*self.temporaryFailCodes} - {*self.successCodes}),
        )

    def may_be_reused(self) -> bool:
        """What WorkReuse says (CWL v1.1 and later): true unless it is switched off."""
        requirement = self.get_requirement("WorkReuse")[0] or {}
        enabled = requirement.get("enableReuse", True)
        return bool(self.builder.do_eval(enabled) if isinstance(enabled, str) else enabled)

    def preferences(self) -> list[Preferences]:
        """How its node is to be chosen, as far as the workflow says; the most general first."""
        return preferences_of(self.hints)

    def _stdin_path(self) -> str | None:
        if self.stdin is None:
            return None
        if all(entry.target != self.stdin for _, entry in self.pathmapper.entries()):
            raise WorkflowException(f"{self.key}: stdin {self.stdin} is not one of the staged files")
        return str(self.stdin)

    def _check_streams(self, staged: list[StagedFile]) -> None:
        """Refuse a stream that would be written where something is that must not be written to."""
        for name, file in (("stdout", self.stdout), ("stderr", self.stderr)):
            if not file:
                continue
            path = posixpath.normpath(posixpath.join(self.builder.outdir, file))
            for item in staged:
                if item.path == path or path.startswith(f"{item.path}/"):
                    if item.mode is StageMode.READ and item.url is not None:
                        raise WorkflowException(
                            f"{name} is to be written to {file}, where InitialWorkDirRequirement"
                            f" places {posixpath.basename(item.path)} to be read only: give {name} another"
                            " name, or make the entry writable"
                        )
                    if item.path == path and item.directory:
                        raise WorkflowException(f"{name} is to be written to {file}, which is a directory")
                elif item.path.startswith(f"{path}/"):
                    raise WorkflowException(
                        f"{name} is to be written to {file}, but InitialWorkDirRequirement makes"
                        " that a directory"
                    )

    def _staged(self) -> Iterator[StagedFile]:
        yield StagedFile(path=self.builder.tmpdir, directory=True, mode=StageMode.COPY)
        facts = _sizes(self.builder.files), _checksums(self.builder.files)
        yield from _staged_of(self.pathmapper, self.inplace_update, *facts)
        if self.generatefiles["listing"]:
            self.generatemapper = self.make_path_mapper(
                self.generatefiles["listing"], self.builder.outdir, self.context, False
            )
            _refuse_collisions(self.generatemapper)
            yield from _staged_of(self.generatemapper, self.inplace_update, *facts)

    @property
    def _root(self) -> str:
        return str(self.builder.stagedir.removesuffix("/in"))

    def _checked(self, item: StagedFile) -> StagedFile:
        """What is staged, wherever its location comes from, if the run may have it."""
        if item.url is None:
            return item
        files = self.builder.fs_access.policy.files
        url = files.url(item.url)
        mode = item.mode
        if mode is StageMode.INPLACE and url.startswith("file:") and not files.may_change(url_path(url)):
            mode = StageMode.COPY  # the update is an offer (InplaceUpdateRequirement): a copy is updated
        return item if (url, mode) == (item.url, item.mode) else replace(item, url=url, mode=mode)

    def _with_linked(self, item: StagedFile) -> Iterator[StagedFile]:
        """What is staged, and, of a Directory, what links in it lead to outside it: nodes follow none."""
        yield item
        if not item.directory or item.url is None or not item.url.startswith("file:"):
            return
        files, folder = self.builder.fs_access.policy.files, url_path(item.url)
        mode = StageMode.COPY if item.mode is StageMode.COPY else StageMode.READ
        try:
            links = files.links_out(folder)
        except TooManyLinksError as error:
            raise WorkflowException(f"{self.key}: {error}") from error
        for link in links:
            if not files.allows(link.target):
                raise WorkflowException(
                    f"{self.key}: the Directory {folder} holds the link {link.path}, which leads out of it to"
                    f" {link.target}, and that may not be read: {files.refusal(link.target)}"
                )
            yield StagedFile(
                f"{item.path}/{link.path}", file_uri(link.target), directory=link.directory, mode=mode
            )

    def _resources(self) -> Resources:
        asked = self.builder.requested
        requirement = dict(self.get_requirement("ResourceRequirement")[0] or {})
        requirement |= {f"{name}{end}": True for name in self.builder.overridden for end in ("Min", "Max")}
        scratch = sum(asked[f"{name}Min"] for name in ("tmpdir", "outdir") if _says(requirement, name))
        return Resources(
            cores_min=asked["coresMin"],
            cores_max=asked["coresMax"] if requirement.get("coresMax") else None,
            memory_min=int(asked["ramMin"] * MIB) if _says(requirement, "ram") else None,
            memory_max=int(asked["ramMax"] * MIB) if requirement.get("ramMax") else None,
            scratch_min=int(scratch * MIB) or None,
        )

    def collect(self, outcome: StepOutcome) -> Collected:
        """The step's output object, or why there is none.

        Reads the outputs' bytes for their checksums: not for the event loop.

        Raises:
            OSError: the workspace cannot be read.
            UnsupportedRequirement: an expression asks for something that cannot be done here.
        """
        if outcome.exit_code is None or outcome.output_dir is None:
            return Collected({}, "permanentFail")
        status = self._status(outcome.exit_code)
        if status != "success":
            _logger.warning("[%s] exited with status %d", self.key, outcome.exit_code)
        folder = url_path(outcome.output_dir)
        self._check_folder(folder)
        self.pathmapper.collect_from(self.builder.outdir, str(folder))
        try:
            outputs = bytes2str_in_dicts(self.collect_outputs(str(folder), outcome.exit_code))
            visit_files_directories(outputs, check_name)
            visit_files_directories(outputs, _locate)
        except (OSError, UnsupportedRequirement):
            raise
        except Exception as error:  # cwltool's, or Python's own about what the command wrote
            if status != "success":  # no wonder then
                _logger.info("[%s] no outputs: %s", self.key, error)
                return Collected({}, status)
            reason = why_not_collected(self._refused(error) or error, folder, self._root)
            return Collected({}, "permanentFail", reason)
        return Collected(outputs, status)

    def _refused(self, error: Exception) -> ValidationException | None:
        """Why cwltool has not found a file that is there: the run may not have it."""
        found = _NOT_FOUND.search(str(error))
        if found:
            try:
                self.builder.fs_access.policy.files.url(found[1])
            except ValidationException as refusal:
                return refusal
        return None

    def _check_folder(self, folder: Path) -> None:
        """Refuse an output directory that a command, or a node, has replaced by a link."""
        self.builder.fs_access.policy.files.check(folder)
        if folder.is_symlink():
            raise WorkflowException(f"{self.key}: its output directory is a link, and is not followed")

    def read_no_more(self) -> None:
        """The step has ended, however: what it read may be updated in place."""
        manager = self.builder.mutation_manager
        if manager is not None:
            for item in self.collect_outputs.keywords["readers"].values():
                manager.release_reader(self.name, item)

    def _status(self, exit_code: int) -> str:
        """CWL v1.2 CommandLineTool ``successCodes`` and its two siblings, in this order."""
        if exit_code in self.successCodes:
            return "success"
        if exit_code in self.temporaryFailCodes:
            return "temporaryFail"
        if exit_code in self.permanentFailCodes or exit_code != 0:
            return "permanentFail"
        return "success"


def _check_places(staged: list[StagedFile], root: str, *, in_container: bool) -> None:
    """Refuse files at places that only a container can show, where there is none, and those that lead up."""
    for item in staged:
        parts = item.path.split("/")
        if ".." in parts or "\0" in item.path or not (in_container or item.path.startswith(f"{root}/")):
            raise WorkflowException(
                f"a file is to be placed at {item.path!r}, which is outside the step's own folders; only a"
                " tool that requires a container can have files at absolute paths, and none can with '..'"
            )


def _says(requirement: dict[str, Any], name: str) -> bool:
    return bool(requirement.get(f"{name}Min") or requirement.get(f"{name}Max"))


def _sizes(files: list[Any]) -> dict[str, int]:
    """Bytes by location of what the step reads, where the loader or the step before told them."""
    found = {}
    for item in files:
        size = item.get("size")
        if size is None and item.get("listing"):
            parts = _sizes(item["listing"])
            size = sum(parts.values()) if len(parts) == len(item["listing"]) else None
        if size is not None:
            found[item.get("location", "")] = int(size)
        if item.get("secondaryFiles"):
            found |= _sizes(item["secondaryFiles"])
    return found


def _checksums(files: list[Any]) -> dict[str, str]:
    """Checksums by location, of files that came out of an earlier step."""
    found = {}
    for item in files:
        if item.get("checksum"):
            found[item.get("location", "")] = str(item["checksum"])
        for inner in ("listing", "secondaryFiles"):
            if item.get(inner):
                found |= _checksums(item[inner])
    return found


def _staged_of(
    mapper: UrlPathMapper, inplace: bool, sizes: dict[str, int], checksums: dict[str, str]
) -> Iterator[StagedFile]:
    for location, entry in mapper.entries():
        if entry.staged:
            yield _staged_file(entry, inplace, sizes.get(location), checksums.get(location))


def _staged_file(entry: MapperEnt, inplace: bool, size: int | None, checksum: str | None) -> StagedFile:
    writable = entry.type.startswith("Writable") or entry.type == "CreateWritableFile"
    mode = (StageMode.INPLACE if inplace else StageMode.COPY) if writable else StageMode.READ
    if entry.type in ("CreateFile", "CreateWritableFile"):
        return StagedFile(
            path=entry.target, contents=entry.resolved, mode=StageMode.COPY if writable else StageMode.READ
        )
    directory = entry.type.endswith("Directory")
    if entry.resolved.startswith("_:"):  # a Directory literal: its entries are staged one by one
        return StagedFile(path=entry.target, directory=True, mode=StageMode.COPY)
    return StagedFile(
        entry.target, _url(entry.resolved), directory=directory, mode=mode, size=size, checksum=checksum
    )


def _url(resolved: str) -> str:
    return str(file_uri(resolved)) if resolved.startswith("/") else resolved


def _locate(item: dict[str, Any]) -> None:
    """cwltool gives an output that is an input's own file as a plain path: make it a URL."""
    item["location"] = _url(item["location"])


def _refuse_collisions(mapper: UrlPathMapper) -> None:
    """CWL v1.2 InitialWorkDirRequirement: two different things must not get the same name."""
    taken: dict[str, str] = {}
    for _, entry in mapper.entries():
        if entry.staged and taken.setdefault(entry.target, entry.resolved) != entry.resolved:
            raise WorkflowException(
                f"InitialWorkDirRequirement places both {taken[entry.target]!r} and {entry.resolved!r}"
                f" at {entry.target}"
            )
