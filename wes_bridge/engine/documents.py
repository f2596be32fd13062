"""Where a submitted workflow is: among the attachments, at a URL, or inside a ``data:`` URL."""

from __future__ import annotations

import urllib.request
from urllib.parse import urldefrag, urljoin, urlsplit

from wes_bridge.data.workspace import RunFolder, file_url, safe_relative
from wes_bridge.engine.loading import InvalidWorkflowError


def workflow_location(workflow_url: str, folder: RunFolder, base_url: str) -> str:
    """The absolute URL to load a workflow from.

    Args:
        workflow_url: as submitted; relative ones name an attachment.
        folder: of the run; a ``data:`` URL is unpacked there.
        base_url: of the attachments, ends with ``/``.

    Raises:
        InvalidWorkflowError: the URL cannot be understood.
    """
    scheme = urlsplit(workflow_url).scheme
    if scheme == "data":
        return _unpacked(workflow_url, folder)
    return workflow_url if scheme in ("http", "https", "file") else urljoin(base_url, workflow_url)


def _unpacked(workflow_url: str, folder: RunFolder) -> str:
    url, fragment = urldefrag(workflow_url)
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310  # the scheme is "data": nothing is opened
            content = answer.read()
    except (ValueError, OSError) as error:
        raise InvalidWorkflowError(f"workflow_url is not a valid data URL: {error}") from error
    path = folder.attachments / safe_relative("workflow-from-data-url.cwl")
    path.write_bytes(content)
    return file_url(path) + (f"#{fragment}" if fragment else "")
