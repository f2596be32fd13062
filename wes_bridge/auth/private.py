"""The secret of a private service: made for one run, known to its own processes and their one client.

A port of this machine is open to every user on it, and a private service reads its user's files. So each
request to its API and its nodes must carry a token, which travels in the environment: unlike a command line,
only its own user can read that. Where the variable is not set, everything is as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "WES_BRIDGE_PRIVATE_TOKEN"
"""Environment variable that holds the token."""


def private_token(environment: Mapping[str, str] | None = None) -> str | None:
    """The token of the private service that this process is part of; None in any other."""
    return (os.environ if environment is None else environment).get(VARIABLE) or None


def bearer(token: str) -> str:
    """The value of ``Authorization``."""
    return f"Bearer {token}"
