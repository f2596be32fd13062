"""A file of ``--token-file`` that holds no token: the message says so, and never what is in the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from wes_bridge.cli.commands.keys import keys

CANARY = "wbk_canary0123456789"


def runs(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "wes_bridge.cli.main", "runs", "--wes", "http://127.0.0.1:9", *arguments]
    return subprocess.run(
        words, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"note\n{CANARY}\n", "has more than one line"),
        (f"{CANARY}\rnote", "has more than one line"),
        ("\n \n", "is empty"),
        ("", "is empty"),
        (f"key {CANARY}", "has characters that no token has"),
        (f"{CANARY}\x07x", "has characters that no token has"),
        (f"{CANARY}\u00fc", "has characters that no token has"),
    ],
)
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content.encode())
    done = runs("--token-file", str(file))
    assert done.returncode == 2, done.stderr
    assert f"the token file {file} {why}" in done.stderr
    assert "internal error" not in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_a_file_that_is_no_text_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(CANARY.encode() + b"\xff\xfe")
    done = runs("--token-file", str(file))
    assert done.returncode == 2
    assert f"the token file {file} is no text" in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_the_variable_is_read_as_the_file_is() -> None:
    done = runs(WES_BRIDGE_TOKEN=f"note\n{CANARY}")
    assert done.returncode == 2
    assert "WES_BRIDGE_TOKEN has more than one line" in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_standard_output_of_keys_create_is_a_token_file(tmp_path: Path) -> None:
    made = CliRunner().invoke(keys, ["create", "nightly", "--state", str(tmp_path)])
    assert made.exit_code == 0
    assert made.stdout.startswith("wbk_")
    assert made.stdout.count("\n") == 1
    file = tmp_path / "key"
    file.write_text(made.stdout)
    done = runs("--token-file", str(file))
    assert "token file" not in done.stderr
    assert "cannot be reached" in done.stderr or done.returncode == 1
