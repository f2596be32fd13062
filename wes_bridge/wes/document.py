"""The OpenAPI document: found, read, and told where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BASE_PATH = "/ga4gh/wes/v1"
"""Where the standard's paths begin on this server."""

_PACKAGE = Path(__file__).resolve().parent.parent


def document_path(name: str = "wes.yaml") -> Path:
    """The document's file: ``wes_bridge/openapi`` when installed, ``openapi`` in a source tree.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for folder in (_PACKAGE / "openapi", _PACKAGE.parent / "openapi"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is not part of this installation of wes-bridge; install it again")


def load_document(name: str = "wes.yaml") -> dict[str, Any]:
    """The document as plain data."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with document_path(name).open("rb") as file:
        document: dict[str, Any] = yaml.load(file, loader)  # noqa: S506 - a safe loader either way
    return document
