"""Where the outputs of ``wes-bridge run`` go: the folder is tried before the run, and results are not lost.

Standard library and the client only: the runner must start fast.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wes_bridge.client import WESClient, WESError
from wes_bridge.client.errors import DownloadError


class OutdirError(OSError):
    """The outputs cannot be written to where they are to go."""


def make_outdir(folder: str | Path) -> None:
    """Make the folder for the outputs, and try to write there.

    Raises:
        OutdirError: says why it cannot be.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutdirError(
            f"outputs cannot be written to {Path(folder).absolute()}: {error.strerror or error};"
            " give another folder with --outdir DIR"
        ) from error


def deliver(
    client: WESClient,
    run_id: str,
    folder: str | Path,
    outputs: dict[str, Any],
    *,
    private: bool,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], bool]:
    """Fetch the outputs of a run into a folder; where that fails, see that they are not lost.

    Args:
        client: of the service.
        run_id: of the run.
        folder: where they are to go.
        outputs: the output object.
        private: whether the service, and what it keeps, is gone afterwards.
        say: tells the user.

    Returns:
        The output object with the places of the files, and whether they are where they should be.

    Raises:
        OutdirError: they could not be written; says how they can be had.
        WESError: the service does not give them.
    """
    try:
        return client.download(run_id, folder, outputs=outputs), True
    except (OSError, DownloadError) as error:
        reason = f"the outputs cannot be written to {Path(folder).absolute()}: {error}"
        if not private:
            again = f"wes-bridge outputs {run_id} --wes {client.url} --download DIR"
            raise OutdirError(f"{reason}; the service keeps them, and gives them with: {again}") from error
    try:
        kept = tempfile.mkdtemp(prefix="wes-bridge-outputs-")
        found = client.download(run_id, kept, outputs=outputs)
    except (OSError, WESError) as error:
        raise OutdirError(f"{reason}; nor to a temporary folder: {error}") from error
    say(f"error: {reason}; they are in {kept}")
    return found, False
