"""What can be wrong with a run, as exceptions."""

from __future__ import annotations

from wes_bridge.digits import too_many_digits
from wes_bridge.lasting import place_of


class InvalidWorkflowError(Exception):
    """The document or its inputs are not valid CWL; the text is the validator's, with file and line."""


class PlaceTakenError(Exception):
    """Two jobs of a run have one place, and so one task, one journal entry and one output directory."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"two jobs of this run have the place {place!r}, by which a task and its outputs are known, so"
            " the run is stopped before one overwrites what the other has made. If two steps of a workflow"
            " have one name, give each its own; if not, this is a fault of wes-bridge: please report it with"
            " the document"
        )


def unexpected(error: BaseException, while_: str = "") -> str:
    """Words for an error that nobody foresaw: what it is, where it arose, and what to do.

    Args:
        error: as it was raised.
        while_: what was being done, as in ``making the jobs of step 'calibrate'``.
    """
    if (digits := too_many_digits(error)) is not None:
        return f"{while_}: {digits}" if while_ else digits
    doing = f" while {while_}" if while_ else ""
    said = f": {error}" if str(error) else ""
    return (
        f"internal error{doing}: {place_of(error)}{said}; this is a fault of wes-bridge or of"
        " cwltool, which should have said what is wrong: please report it with the document and its inputs"
    )
