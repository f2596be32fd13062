"""What can be wrong with a run, as exceptions."""

from __future__ import annotations

import traceback
from pathlib import Path


class InvalidWorkflowError(Exception):
    """The document or its inputs are not valid CWL; the text is the validator's, with file and line."""


def unexpected(error: BaseException, while_: str = "") -> str:
    """Words for an error that nobody foresaw: what it is, where it arose, and what to do.

    Args:
        error: as it was raised.
        while_: what was being done, as in ``making the jobs of step 'calibrate'``.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    doing = f" while {while_}" if while_ else ""
    said = f": {error}" if str(error) else ""
    return (
        f"internal error{doing}: {type(error).__name__}{said}{place}; this is a fault of wes-bridge or of"
        " cwltool, which should have said what is wrong: please report it with the document and its inputs"
    )
