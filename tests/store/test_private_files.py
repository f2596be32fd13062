"""State folders are their user's alone, whatever the umask and whatever was there before."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wes_bridge.private_files import private_file, private_folder


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_new_one_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    private_folder(tmp_path / "a" / "state")
    private_file(tmp_path / "a" / "state" / "file")
    assert mode(tmp_path / "a" / "state") == 0o700
    assert mode(tmp_path / "a" / "state" / "file") == 0o600
    assert caplog.text == ""


def test_what_was_wide_is_narrowed_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    run = state / "workspace" / "RUN"
    run.mkdir(parents=True)
    (state / "node.db").write_text("x")
    (state / "worker.json").write_text("x")
    (run / "file").write_text("x")
    (state / "link").symlink_to(tmp_path)
    (run / "tool").write_text("x")
    before = mode(tmp_path)
    with caplog.at_level(logging.WARNING):
        private_folder(state)
        assert caplog.text.count("other users could look into the folder") == 1
        private_folder(state)
        assert caplog.text.count("other users could") == 1
    assert [mode(state / name) for name in ("", "workspace", "workspace/RUN")] == [0o700] * 3
    assert [mode(state / name) for name in ("node.db", "worker.json")] == [0o600] * 2
    assert mode(tmp_path) == before, "a link is not followed"


def test_a_folder_with_other_things_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As where somebody says --state /tmp, or the folder of a web server."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "theirs").write_text("x")
    private_folder(shared)
    assert (mode(shared), mode(shared / "theirs")) == (0o777, 0o666)
    assert "give wes-bridge a folder for itself" in caplog.text


def test_a_temporary_folder_of_everybody_is_never_narrowed(tmp_path: Path) -> None:
    everybody = tmp_path / "tmp"
    everybody.mkdir()
    everybody.chmod(0o1777)
    (everybody / "serve.lock").write_text("")
    private_folder(everybody)
    assert mode(everybody) == 0o1777
    assert mode(everybody / "serve.lock") == 0o600


def test_what_common_names_tell(tmp_path: Path) -> None:
    """A secret alone is ours; beside other things its name tells nothing."""
    for name, others in (("ours", []), ("shared", ["theirs"])):
        (tmp_path / name).mkdir()
        for file in ("token", *others):
            (tmp_path / name / file).touch()
        private_folder(tmp_path / name)
    assert (mode(tmp_path / "ours"), mode(tmp_path / "shared")) == (0o700, 0o777)
    assert mode(tmp_path / "shared" / "token") == 0o600, "nobody else reads it all the same"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_folder_of_another_user_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    private_folder(tmp_path / "state")
    assert "other users can look into" in caplog.text
