"""Where a submitted workflow is: among the attachments, at a URL, or inside a ``data:`` URL."""

from __future__ import annotations

import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.data.attachments import find_attachment
from wes_bridge.data.workspace import RunFolder, file_url, safe_relative


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
    if scheme in ("http", "https", "file"):
        return workflow_url
    found = find_attachment(workflow_url, lambda name: folder.attachment(name).is_file())
    if found is None:
        return urljoin(base_url, workflow_url)
    name, fragment = found
    return file_url(folder.attachment(name)) + (f"#{fragment}" if fragment else "")


def attached_instead(url: str, attachments: Path) -> str | None:
    """The attachment meant by a ``file://`` URL of the client's own machine, as some clients send.

    Args:
        url: of an input that cannot be read here.
        attachments: the run's folder of attachments.

    Returns:
        The URL of the attachment whose name is the longest tail of the URL's path; None when there is none.
    """
    parts = PurePosixPath(unquote(urlsplit(url).path)).parts[1:]
    tails = (attachments.joinpath(*parts[start:]) for start in range(len(parts)) if ".." not in parts)
    return next((file_url(path) for path in tails if path.exists()), None)


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
