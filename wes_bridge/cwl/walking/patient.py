"""A workflow that, told to go on after a failure, waits for what still runs.

cwltool's gives up when a step has failed and none is ready at this moment, so that the steps after one that
is still running would never begin. It must not know what jobs are.
"""

from __future__ import annotations

from typing import Any

from cwltool.context import RuntimeContext, getdefault

from wes_bridge.cwl.walking.waking import WakingWorkflowJob


class PatientWorkflowJob(WakingWorkflowJob):
    """A workflow whose failure shows only when nothing runs any more, where it is to go on after one."""

    def __init__(self, workflow: Any, runtimeContext: RuntimeContext) -> None:
        self._status = ""
        self._goes_on = getdefault(runtimeContext.on_error, "stop") == "continue"
        super().__init__(workflow, runtimeContext)

    @property
    def processStatus(self) -> str:
        """How it goes."""
        running = self._goes_on and self.running
        return "success" if running and self._status != "success" else self._status

    @processStatus.setter
    def processStatus(self, status: str) -> None:
        if self._status != "permanentFail":
            self._status = status
