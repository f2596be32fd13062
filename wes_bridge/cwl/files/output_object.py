"""cwl.output.json, which a command may write instead of what its tool's globs would find.

The command is untrusted and the file is read as a whole, so that its size, the number of its values and the
depth to which they are nested are looked at before. It must not know what is done with the values.
"""

from __future__ import annotations

from pathlib import Path

from cwltool.errors import WorkflowException

from wes_bridge.cwl.text import invalid_json
from wes_bridge.model.expansion import nested
from wes_bridge.small_files import read_small

OUTPUT_OBJECT = "cwl.output.json"
MOST_BYTES = 16 * 1024**2
_MOST_VALUES = 2_000_000
"""Values take up to forty times the bytes of their text."""
_DEEPEST = 400


def read_output_object(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a cwl.output.json.

    Raises:
        NotSmallError: it is no regular file, or larger than what is read.
        WorkflowException: there is too much in it, or text that is none.
    """
    content = read_small(path, most)
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > _MOST_VALUES:
        raise WorkflowException(
            f"{OUTPUT_OBJECT} has more than {_MOST_VALUES} values; write them to a file of their own"
        )
    text = content.decode()
    if nested(text) > _DEEPEST:
        raise WorkflowException(f"{OUTPUT_OBJECT} is nested too deeply, in more than {_DEEPEST} levels")
    wrong = invalid_json(text)
    if wrong:
        raise WorkflowException(f"{OUTPUT_OBJECT} has {wrong}")
    return text
