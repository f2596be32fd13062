"""Containers do not reach link-local addresses, at which clouds give the machine's credentials to who asks.

No option of an engine says so. podman lets a program of ours run in the network of each container that it
makes, before its command (a hook of the OCI runtime, stage ``createContainer``): ``link_local.py`` puts the
same rules there as in the networks of other steps, and commands have no right to take them away. A hook that
fails keeps the container from being started, except where rules are never possible here and the settings
of the node leave it at that: then it leaves a note. Other engines know no hooks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from wes_bridge.node.platforms import link_local
from wes_bridge.private_files import private_folder
from wes_bridge.small_files import read_small

_FOLDER = "hooks"
_NOTE = "not-closed"
_LONGEST_NOTE = 2000
_SECONDS = 10
_OF_THE_MACHINE = (Path("/usr/share/containers/oci/hooks.d"), Path("/etc/containers/oci/hooks.d"))
"""Where podman looks for hooks when it is not told where to look."""


class Closing:
    """The hook of one node.

    Args:
        state: the node's state directory.
        strict: whether no container may run with a network that cannot be closed.
    """

    def __init__(self, state: Path, *, strict: bool) -> None:
        self._folder = state / _FOLDER
        self._note = self._folder / _NOTE
        self._strict = strict
        self._is_written = False

    def options(self) -> list[str]:
        """Words for ``podman run``. Blocks.

        Raises:
            OSError: the hook cannot be written down.
        """
        if not self._is_written:
            self._write()
            self._is_written = True
        folders = [folder for folder in _OF_THE_MACHINE if folder.is_dir()]
        return [word for folder in (*folders, self._folder) for word in ("--hooks-dir", str(folder))]

    def why_not(self) -> str | None:
        """Why link-local addresses are in reach; None where that is not known. Blocks."""
        try:
            return read_small(self._note, _LONGEST_NOTE, follow=False).decode(errors="replace").strip()
        except OSError:
            return None

    def _write(self) -> None:
        private_folder(self._folder)
        self._note.unlink(missing_ok=True)
        program = os.path.realpath(sys.executable)
        words = ["python", "-I", "-S", os.path.realpath(link_local.__file__)]
        hook = {
            "version": "1.0.0",
            "hook": {
                "path": program,
                "args": words if self._strict else [*words, str(self._note)],
                "timeout": _SECONDS,
            },
            "when": {"always": True},
            "stages": ["createContainer"],
        }
        new = self._folder / ".new"
        new.write_text(json.dumps(hook))
        new.rename(self._folder / "wes-bridge.json")
