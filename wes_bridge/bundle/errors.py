"""What can be wrong with a workflow or input object on the way to the service."""

from __future__ import annotations

from pathlib import Path


class BundleError(Exception):
    """A workflow, job file or input that cannot be sent.

    Attributes:
        problems: what is wrong, one line each, with ``file:line`` where it is known.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class TooMuchError(BundleError):
    """A document has too many values when all that it refers to is written out: nobody reads on."""


class OutsideError(BundleError):
    """The workflow's documents name files outside its project, which nobody said may be uploaded.

    Attributes:
        paths: of these files and folders.
    """

    def __init__(self, paths: list[Path], *problems: str) -> None:
        super().__init__(*problems)
        self.paths = paths
