"""Inputs that a workflow calls secret (``cwltool:Secrets``): walked, journalled and shown as placeholders.

Expressions and command lines get a placeholder, as with cwltool; what is sent to a node has the value, and
what a node says has the placeholder again. The run's row keeps placeholders once the workflow is loaded;
values are stored encrypted, for whoever takes the run up and for reruns.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from wes_bridge.auth.acting import Reveal
from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.cwl.vocabulary import Process, shortname
from wes_bridge.data.workspace import url_path
from wes_bridge.model.step_plan import StepPlan

_HINT = "http://commonwl.org/cwltool#Secrets"
SHORTEST = 4
"""Characters of a value that can be told from other words, where a node says it."""


@dataclass
class SecretInputs:
    """The secret inputs of a run.

    Attributes:
        values: by name of the input.
        salt: makes placeholders the same in every replay, and in reruns.
    """

    values: dict[str, str] = field(default_factory=dict)
    salt: str = field(default_factory=lambda: secrets.token_hex(12))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.values)

    def placeholder(self, name: str) -> str:
        """What stands for an input's value."""
        return f"(secret-{self.salt}-{list(self.values).index(name)})"

    def hide(self, job_order: dict[str, Any]) -> None:
        """Put placeholders into a job order."""
        for name in self.values:
            job_order[name] = self.placeholder(name)

    def restored(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs as they were submitted; one that a rerun was given anew stays as it is."""
        hidden = {name for name in self.values if params.get(name) == self.placeholder(name)}
        return {**params, **{name: self.values[name] for name in hidden}}

    def reveal(self) -> Reveal | None:
        """For what is sent to nodes and what they say; None where nothing is secret."""
        if not self.values:
            return None
        forms: dict[str, bytes] = {}
        for name, value in self.values.items():
            mark = self.placeholder(name)
            forms[mark] = json.dumps(value, ensure_ascii=False)[1:-1].encode()
            forms[quote(mark)] = quote(value).encode()  # literal files are data: URLs
        return Reveal(forms, frozenset(mark for mark, value in forms.items() if len(value) >= SHORTEST))

    def forget_files(self, plan: StepPlan, output_url: str | None) -> None:
        """Remove the files that were written for a step with secrets in them, as cwltool does. Blocks.

        Only files right in the step's folder: on the way to others a command may have put a link.
        """
        if not output_url or urlsplit(output_url).scheme != "file":
            return
        marks = [self.placeholder(name) for name in self.values]
        for item in plan.staged:
            folder, _, name = item.path.rpartition("/")
            if item.contents and folder == plan.workdir and any(mark in item.contents for mark in marks):
                with contextlib.suppress(OSError):
                    (url_path(output_url) / name).unlink()

    def to_json(self) -> str:
        """As text, to be encrypted."""
        return json.dumps({"values": self.values, "salt": self.salt})

    @classmethod
    def of_json(cls, text: str) -> SecretInputs:
        """What :meth:`to_json` made."""
        told = json.loads(text)
        return cls(told["values"], told["salt"])


def secret_inputs(process: Process, job_order: Mapping[str, Any], known: SecretInputs | None) -> SecretInputs:
    """The inputs that a workflow calls secret, with their values.

    Args:
        process: the workflow.
        job_order: complete.
        known: those of an earlier worker, or of the run that this one is a rerun of: its salt is kept.

    Raises:
        InvalidWorkflowError: one of them is no text.
    """
    hint, _ = process.get_requirement(_HINT)
    found = SecretInputs(salt=known.salt) if known else SecretInputs()
    for name in (shortname(str(one)) for one in (hint or {}).get("secrets") or []):
        value = job_order.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidWorkflowError(
                f"cwltool:Secrets: the input {name!r} is no string: only these are kept secret"
            )
        found.values[name] = value
    return found
