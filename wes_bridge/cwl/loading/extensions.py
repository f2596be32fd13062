"""Features of other engines and other versions of CWL that a document needs and that cannot be run here.

cwltool finds them while it checks a document, and says that something in it is not valid. It is valid for
some engine, which a caller is to be told: by the feature's name, and exit code 33. It must not load anything.
"""

from __future__ import annotations

import re

_EXTENSION = re.compile(r"undefined reference to\s+[`'\"]http://commonwl\.org/cwltool#(\w+)")
_LOOP = re.compile(r"invalid field\s+[`'\"]loop[`'\"]")
_VERSION = re.compile(r"\b(v1\.[3-9][\w.-]*)")
_NOT_HERE = re.compile(r"(?i)development|support|deprecated")


def unsupported_feature(problem: str) -> str | None:
    """What a document needs that cannot be run here, in words.

    Args:
        problem: what is wrong with the document, in cwltool's words.

    Returns:
        None when nothing is missing here: the document is at fault.
    """
    extension = _EXTENSION.search(problem)
    if extension:
        return (
            f"cwltool:{extension[1]} is an extension of cwltool, which this engine does not run; as a hint it"
            " is passed over"
        )
    if _LOOP.search(problem):
        return "loop is a feature of CWL v1.3, which this engine does not run"
    version = _VERSION.search(problem)
    if version and _NOT_HERE.search(problem):
        return f"CWL {version[1]}, with its loop, is not run by this engine, which knows v1.0, v1.1 and v1.2"
    return None
