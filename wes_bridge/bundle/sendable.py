"""What cannot be uploaded, in words: names that a form or a service does not take, and what is no file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from wes_bridge.data.special import readable, what_is_wrong

_ADVICE = "rename it, or use a service that reads this machine's files itself (fetch.files)"


def name_problem(name: str) -> str | None:
    """Why no file of this relative name can be uploaded; None when it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"{readable(name)}: the name is not UTF-8, so it cannot be uploaded; {_ADVICE}"
    if "\\" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
        what = "a backslash" if "\\" in name else "a control character"
        return f"{readable(name)}: the name has {what}, so it cannot be uploaded; {_ADVICE}"
    return None


def odd_entries(folder: Path) -> Iterator[str]:
    """What is neither a file nor a folder below ``folder``, each with the reason."""
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(place, name)  # noqa: PTH118
            wrong = what_is_wrong(path)
            if wrong is not None:
                yield f"{readable(path)} is {wrong}, so it cannot be uploaded; remove it from the Directory"
