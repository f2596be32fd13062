"""Folders that our commands make are their user's alone from the first moment, whatever the umask is."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WORDS = {
    "serve": ["serve", "--port=0", "--quiet", "--exit-with-parent"],
    "keys, then serve": ["serve", "--port=0", "--quiet", "--exit-with-parent"],
    "node": ["node", "--port=0"],
    "aggregate": ["aggregate", "--port=0", "--broker=one=http://127.0.0.1:9/"],
}


@contextmanager
def running(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server of ours, ready, with the umask that most people have."""
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "wes_bridge.cli.main", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            umask=0o022,
            cwd=folder,
        ) as server,
    ):
        try:
            assert server.stdout is not None
            assert "is ready at" in server.stdout.readline(), (folder / "log").read_text()
            yield
        finally:
            server.terminate()


@pytest.mark.parametrize("case", WORDS)
def test_they_are_narrow_at_the_first_start(case: str, tmp_path: Path, environment: dict[str, str]) -> None:
    state = tmp_path / "above" / "state"
    if case.startswith("keys"):
        key = ["keys", "create", "nightly", "--state", str(state)]
        subprocess.run(
            [sys.executable, "-m", "wes_bridge.cli.main", *key],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
            umask=0o022,
        )
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
    environment = environment | ({"WES_BRIDGE_AGGREGATOR": '{"name": "all"}'} if "serve" in case else {})
    with running([*WORDS[case], f"--state={state}"], tmp_path, environment):
        ours = [state.parent, state]
        if "serve" in case:
            ours += [state / "nodes" / "here", state / "aggregator"]
        found = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in ours}
    assert set(found.values()) == {0o700}, found
    assert "other users" not in (tmp_path / "log").read_text()
