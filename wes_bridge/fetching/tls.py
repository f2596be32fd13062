"""Whose certificates are believed: the public authorities', and those of the site's own bundle."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path

_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Of the environment, with a bundle in place of the usual one."""


@lru_cache
def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context that verifies certificates and host names.

    Args:
        ca_file: a bundle (PEM) of authorities that are believed besides.

    Raises:
        OSError: it cannot be read, or holds no certificates.
    """
    import certifi  # noqa: PLC0415

    bundle = next((path for name in _VARIABLES if (path := os.environ.get(name))), None)
    context = ssl.create_default_context(cafile=bundle or certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
