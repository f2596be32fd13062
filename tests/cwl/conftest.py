from pathlib import Path

import pytest

from tests.cwl.walking import Folder
from wes_bridge.cwl import log, patches


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder for documents, which are loaded and walked as in a run."""
    monkeypatch.setenv("COLUMNS", "1000")  # as in a worker: messages are not folded
    patches.install()
    log.install()
    return Folder(tmp_path)
