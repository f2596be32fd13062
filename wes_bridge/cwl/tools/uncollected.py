"""Why the outputs of a command that ended well are not those that its tool declares, in words for its author.

cwltool's own words are kept where they help, without the paths that exist only inside the service. It must
not know what becomes of the step.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from cwltool.errors import WorkflowException
from schema_salad.exceptions import ValidationException

from wes_bridge.cwl.errors import unexpected
from wes_bridge.cwl.files.output_object import OUTPUT_OBJECT
from wes_bridge.data.readable import shortened
from wes_bridge.data.workspace import file_url
from wes_bridge.digits import too_many_digits

_SHOWN = 10
"""Names of what the command left behind that are told."""
_FIRST_WORDS = "Error validating output record. "
_WHOLE_OUTPUT = re.compile(r"\n in [\[{n\"].*\Z", re.DOTALL)
"""What cwltool appends: the whole output object, with the service's paths."""
_NOT_TEXT = re.compile(r"'utf-8' codec can't decode byte \S+ in position (\d+).*")
_NO_GLOB = re.compile(r"Did not find output file with glob pattern: \[(.*?)\]\.")
_OUTSIDE = re.compile(
    r"Output file path (.*?) must be within designated output directory \(.*?\)"
    r" or an input file pass through\.",
    re.DOTALL,
)
_MANY = "Multiple matches for output item that is a single file."
_ABOUT_FILES = ("no file matches", _MANY, "Missing required secondary file", "Does not exist or is not a")


def why_not_collected(error: Exception, folder: Path, root: str) -> str:
    """Words for what kept a step's outputs from being collected.

    Args:
        error: what collecting them raised.
        folder: what the command left behind.
        root: the step's root in its session, which is no path that anybody knows.
    """
    words = _OUTSIDE.sub(lambda found: _outside(found[1], root), _words(error)).replace(f"{root}/out/", "")
    for place in (f"{file_url(folder)}/", f"{folder}/"):
        words = words.replace(place, "")
    if any(sign in words for sign in _ABOUT_FILES):
        words = f"{words.rstrip('.')}; {_left_behind(folder)}"
    return words


def _outside(path: str, root: str) -> str:
    """Words for an output that is neither in the output directory nor an input with a location."""
    if not path.startswith(f"{root}/in/"):
        return f"{path} is not in the command's output directory; the command must copy it there"
    name = path.removeprefix(f"{root}/in/").partition("/")[2]
    return (
        f"{name} is an input that is given by its contents or its listing, and such an input cannot be an"
        " output as it is; the command must copy it into its output directory"
    )


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{OUTPUT_OBJECT}, which the command wrote, is not JSON: {error}"
    if (digits := too_many_digits(error)) is not None:
        return f"{OUTPUT_OBJECT}, which the command wrote, cannot be read: {digits}"
    if isinstance(error, UnicodeDecodeError):
        return f"a file whose text is asked for is not UTF-8: {error}"
    if not _is_told(error):
        return unexpected(error)
    text = shortened(_WHOLE_OUTPUT.sub("", str(error)).removeprefix(_FIRST_WORDS))
    if text.startswith("is not a dict"):
        return f"{OUTPUT_OBJECT}, which the command wrote, is not a JSON object"
    text = _NOT_TEXT.sub(r"loadContents reads text in UTF-8 only: byte \1 of the file is none", text)
    return _NO_GLOB.sub(r"no file matches the glob \1", text)


def _is_told(error: Exception) -> bool:
    return isinstance(error, WorkflowException | ValidationException)


def _left_behind(folder: Path) -> str:
    """What is in the output directory, for whoever wonders about a glob."""
    try:
        names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    except OSError:
        return "the output directory cannot be read"
    if not names:
        return "the output directory is empty"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the output directory holds {', '.join(map(repr, names[:_SHOWN]))}{more}"
