"""Words for a number with more digits than Python reads, whose own words speak to a programmer.

It must not know where the number stands.
"""

from __future__ import annotations

import sys

_SIGN = "integer string conversion"


def too_many_digits(error: BaseException) -> str | None:
    """What is wrong in words, when it is that; None when it is something else."""
    if not isinstance(error, ValueError) or _SIGN not in str(error):
        return None
    return f"a number in it has too many digits (at most {sys.get_int_max_str_digits():,} are read)"


def why(error: BaseException) -> str:
    """What an error says, in words if it is about digits."""
    return too_many_digits(error) or str(error)
