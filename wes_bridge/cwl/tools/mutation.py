"""Files that are updated in place: who reads them at this moment, and what waits for that to end.

cwltool notes a job as a reader once for each mention of a file among its inputs and takes it off once, so
that a file that was ever read is read for ever, and it refuses to begin an update while a job reads. Here a
job reads a file or does not, and an update waits until the jobs that read have ended. It must not know how
jobs are run.
"""

from __future__ import annotations

from typing import Any

from cwl_utils.types import CWLDirectoryType, CWLFileType
from cwltool.errors import WorkflowException
from cwltool.mutation import MutationManager


class InUseError(WorkflowException):
    """A file that is to be updated in place is read by a job that has not ended."""


class Mutations(MutationManager):
    """cwltool's keeper of generations, which counts each reader once and can take back what a job noted."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Any] = {}

    def begin(self) -> None:
        """A job is about to be made: :meth:`take_back` forgets all that is noted from now on."""
        self._before = {}

    def take_back(self) -> None:
        """Forget what was noted since :meth:`begin`: the job is not made."""
        for location, state in self._before.items():
            if state is None:
                del self.generations[location]
            else:
                self.generations[location] = state
        self._before = {}

    def _remember(self, location: str) -> None:
        state = self.generations.get(location)
        kept = None if state is None else state._replace(readers=list(state.readers))
        self._before.setdefault(location, kept)

    def register_reader(self, stepname: str, obj: CWLFileType | CWLDirectoryType) -> None:
        """Note that a job reads a file; again, nothing.

        Raises:
            WorkflowException: the file was changed since the object was made.
        """
        self._remember(obj["location"])
        super().register_reader(stepname, obj)
        readers = self.generations[obj["location"]].readers
        if readers.count(stepname) > 1:
            readers.remove(stepname)

    def release_reader(self, stepname: str, obj: CWLFileType | CWLDirectoryType) -> None:
        """Note that a job has ended; again, nothing."""
        state = self.generations.get(obj["location"])
        if state is not None and stepname in state.readers:
            state.readers.remove(stepname)

    def register_mutation(self, stepname: str, obj: CWLFileType | CWLDirectoryType) -> None:
        """Note that a job changes a file.

        Raises:
            InUseError: another job reads it.
            WorkflowException: the file was changed since the object was made.
        """
        location = obj["location"]
        self._remember(location)
        state = self.generations.get(location)
        if state is not None and state.readers:
            raise InUseError(f"{stepname} is to update {location}, which {', '.join(state.readers)} reads")
        super().register_mutation(stepname, obj)
