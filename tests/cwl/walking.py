"""Documents written in a test, loaded and walked as a run would, with every command ending at once."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading.load import load, validate
from wes_bridge.cwl.log import Overheard
from wes_bridge.cwl.walking.walk import Finished, Walk


@dataclass
class Walked:
    """What became of a run.

    Attributes:
        commands: of each step that was begun, by its place; the temporary folder is left out.
        staged: names of the files that each of them was given.
        values: each step's inputs.
        told: errors and warnings.
    """

    status: str | None = None
    outputs: dict[str, Any] | None = None
    commands: dict[str, list[str]] = field(default_factory=dict)
    staged: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


class Folder:
    """Documents in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.policy = Policy(FetchConfig(private_hosts=["any"]), [path])
        self.files = fs_access(self.policy)
        self.base = f"file://{path}/"
        self.heard = Overheard(path)

    def write(self, name: str, text: str) -> Path:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))
        return target

    def file(self, name: str, text: str = "here") -> dict[str, Any]:
        """A file that is there, as a step gives it."""
        self.write(name, text)
        return {"class": "File", "location": self.base + name, "basename": Path(name).name}

    def load(self, name: str, params: dict[str, Any] | None = None, **options: Any) -> Any:
        self.heard.activate()
        url = self.base + name
        return load(url, params or {}, self.base, self.policy, self.files(self.base), **options)

    def validate(self, name: str, params: dict[str, Any] | None = None, **options: Any) -> list[str]:
        self.heard.activate()
        url = self.base + name
        return validate(url, params, self.base, self.policy, self.files(self.base), **options)

    def walk(
        self, name: str, params: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None
    ) -> Walked:
        """Walk to the end; each command gives ``outputs``."""
        walk = Walk("run1", self.load(name, params), self.files, {})
        found, finished = Walked(), []
        while walk.status is None:
            pulled = walk.advance(finished, 100)
            finished = []
            for job in pulled.jobs:
                plan = job.plan("file:///nowhere")
                found.commands[job.key] = plan.argv
                found.staged[job.key] = [Path(item.path).name for item in plan.staged if item.url]
                found.values[job.key] = job.builder.job
                finished.append(Finished(job, outputs or {}, "success"))
            if pulled.stuck and not pulled.jobs:
                break
        found.status, found.outputs = walk.status, walk.outputs
        found.told = [*self.heard.errors, *self.heard.warnings]
        return found
