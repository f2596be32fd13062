"""Where a step is in its run, and what follows from it.

A *place* is the path of steps from the workflow down to a tool, with scatter indices:
``("sub", "measure[3]")``. It names a task the same way in every replay of the run, and everything of a step
derives from it: its name, its key, its id, the paths of its session.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cwltool.context import RuntimeContext
from cwltool.process import shortname

from wes_bridge.cwl.tools.mutation import Mutations
from wes_bridge.model.containers import Containers
from wes_bridge.model.run_options import RunOptions

LONGEST_ID = 64
"""Characters of a task's id: what the database has room for."""


class StepContext(RuntimeContext):
    """cwltool's RuntimeContext for one run: adds the place, and makes no temporary folders.

    Attributes:
        run_id: of the run.
        place: see the module.
        run_options: what the run's engine parameters say.
        containers: whether commands run in the images that tools name, as site and run say together.
        max_scatter: jobs that one scatter may make; None: as many as by default.
        recall: gives, for a step's key and what it was asked (:meth:`BridgeTool.job`), the outputs that an
            earlier worker has seen it make. None: nobody asks.
        asked: of the step at this place, once it was asked.
        after_any: callbacks of jobs that cannot be made now, and perhaps when any other has ended: they are
            asked again then, and nothing else is (:mod:`~wes_bridge.cwl.walking.waking`). All of a run have
            one.
        workflows: holds the workflow on top of all, once it is walked. All of a run have one list.
    """

    run_id: str = ""
    place: tuple[str, ...] = ()
    run_options: RunOptions = RunOptions()
    containers: Containers = "preferred"
    max_scatter: int | None = None
    recall: Callable[[str, str], dict[str, Any] | None] | None = None
    asked: str | None = None
    after_any: list[Any]
    workflows: list[Any]

    @property
    def key(self) -> str:
        """The place as text."""
        return "/".join(self.place)

    def create_tmpdir(self) -> str:
        """Sessions have their own; there is none here."""
        return "/nonexistent"

    create_outdir = create_tmpdir

    def get_outdir(self) -> str:
        """The session's output directory, when one is set."""
        return self.outdir or "/nonexistent"

    def get_tmpdir(self) -> str:
        """The session's temporary directory, when one is set."""
        return self.tmpdir or "/nonexistent"

    def get_stagedir(self) -> str:
        """Where inputs appear in the session, when set."""
        return self.stagedir or "/nonexistent"

    def at_tool(self, tool_id: str) -> StepContext:
        """A copy for a tool at this place: session paths below a root that only this step has."""
        context: StepContext = self.copy()
        context.place = self.place or (shortname(tool_id),)
        context.name = context.key
        root = session_root(self.run_id, context.place)
        context.outdir = context.docker_outdir = f"{root}/out"
        context.tmpdir = context.docker_tmpdir = f"{root}/tmp"  # noqa: S108  # of the session
        context.stagedir = context.docker_stagedir = f"{root}/in"
        return context


def run_context(
    run_id: str, make_fs_access: Callable[[str], Any], options: Mapping[str, Any], *, checksums: bool
) -> StepContext:
    """The context in which a run's graph is walked, or expanded for its plan.

    Args:
        run_id: of the run.
        make_fs_access: cwltool file access bound to the run.
        options: attributes of cwltool's RuntimeContext to set.
        checksums: whether files get the checksums of their bytes, which must then be there to be read.
    """
    context = StepContext(dict(options))
    context.run_id = run_id
    context.after_any = []
    context.workflows = []
    context.basedir = "/nonexistent"
    context.make_fs_access = make_fs_access
    context.mutation_manager = Mutations()
    context.toplevel = True
    context.workflow_eval_lock = threading.Condition(threading.RLock())
    context.use_container = True
    context.compute_checksum = checksums
    return context


def session_root(run_id: str, place: tuple[str, ...]) -> str:
    """The directory of a step's session below which its paths lie: unlike any other text."""
    digest = hashlib.sha256("/".join((run_id, *place)).encode()).hexdigest()[:16]
    return f"/wb-{digest}"


def task_id(key: str) -> str:
    """A task's id from its key: readable, safe in a URL and as a folder's name, unique in its run."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", key).strip("-.")
    # of a name that is cut the elements of a wide scatter may differ by these digits alone
    digits = 8 if len(readable) + 9 <= LONGEST_ID else 16
    return f"{readable[: LONGEST_ID - digits - 1]}-{hashlib.sha256(key.encode()).hexdigest()[:digits]}"
