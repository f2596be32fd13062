"""The node's own sandbox for an ordinary user, where the tests run as root: who has no rights to begin with.

The same suites run as that user, in a process of theirs, with a state folder of theirs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node.conftest import REPOSITORY

SUITES = [
    "tests/security/test_sandbox_leftovers.py",
    "tests/security/test_sandbox_files.py",
]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the suites themselves run as an ordinary user then")
@pytest.mark.parametrize("suite", SUITES)
def test_the_break_outs_as_an_ordinary_user(suite: str) -> None:
    user = pwd.getpwnam("nobody")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    home = Path("/var/tmp") / f"wb-nobody-{os.getpid()}"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    prefix = [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *(
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
            "--",
        ),  # this Python may be root's
        *("env", f"HOME={home}", f"TMPDIR={home}", f"PYTHONPATH={REPOSITORY}", "PYTHONDONTWRITEBYTECODE=1"),
        "PATH=/usr/bin:/bin",
    ]
    try:
        if subprocess.run(
            [*prefix, sys.executable, "-c", "import wes_bridge.node.main"], check=False
        ).returncode:
            pytest.skip("an ordinary user cannot read this checkout")
        words = [
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-k",
            "(own and not bwrap) or leftovers",
            str(REPOSITORY / suite),
        ]
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "pytest", *words, f"--basetemp={home}/base"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(home, ignore_errors=True)
