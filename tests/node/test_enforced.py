"""What a node cannot enforce is told; for strangers it does not start without a sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import REPOSITORY, NodeProcess, Request, Starter, session_kinds, shell, texts
from tests.waiting import until
from wes_bridge.config import NodeConfig
from wes_bridge.model.gaps import GAPS, Gap
from wes_bridge.node.enforced import UnsafeError, check
from wes_bridge.node.platforms.groups import Groups


@pytest.fixture
def no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without bubblewrap, on which nobody may make user namespaces."""
    limited = tmp_path / "python"
    limited.write_text(
        '#!/bin/sh\nexec unshare -Ur sh -c \'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" "$@"\''
        f' {sys.executable} "$@"\n'
    )
    limited.chmod(0o755)
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho it is out of order >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(limited))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def refused(state: Path, **config: Any) -> str:
    """What a node says that does not start."""
    command = [sys.executable, "-m", "wes_bridge.node.main", "--state-dir", str(state)]
    command += ["--config-json", json.dumps({"name": "test", "platforms": ["process"], **config})]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode != 0, done
    assert "Traceback" not in done.stderr
    return done.stderr


def status(node: NodeProcess) -> dict[str, str]:
    until(lambda: "unenforced" in node.http.get(f"{node.url}/status").json())
    found: dict[str, str] = node.http.get(f"{node.url}/status").json()["unenforced"]
    return found


def test_a_machine_without_sandbox_says_so_everywhere(
    no_sandbox: None, start_node: Starter, capfd: pytest.CaptureFixture[str]
) -> None:
    node = start_node()
    if (node.state / "token").exists():  # in a user namespace nobody is seen to be the node's user
        node.http.headers["Authorization"] = f"Bearer {(node.state / 'token').read_text().strip()}"
    told = status(node)
    assert "without a sandbox" in told["sandbox"]
    assert "out of order" in told["sandbox"]
    assert "no_network" in told
    assert "leaves behind" in told["processes"]
    session = node.completed(Request(shell("true")))
    assert "urn:wes-bridge:unenforced" in session_kinds(session)
    assert "the command runs without a sandbox" in texts(session)
    assert "leaves behind" in texts(session)
    session = node.completed(Request(shell("true", network={"access": False})))
    assert "not kept from using the network" in texts(session)
    until((node.state / "unenforced.json").exists)
    assert {gap["what"] for gap in json.loads((node.state / "unenforced.json").read_text())} >= {"sandbox"}
    log = capfd.readouterr().err
    assert log.count("plain processes run without a sandbox") == 1


@pytest.mark.parametrize(
    "others",
    [{"many_users": True}, {"public_url": "https://node.example.org/"}],
    ids=["many users", "a proxy"],
)
def test_for_others_it_does_not_start_without_one(
    no_sandbox: None, tmp_path: Path, others: dict[str, Any]
) -> None:
    said = refused(tmp_path / "state", **others)
    assert "without a sandbox" in said
    assert "sandbox: none" in said
    assert "out of order" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example.org"])
def test_who_listens_elsewhere_than_on_loopback_serves_others(host: str) -> None:
    gaps = [Gap(what="sandbox", text="there is no sandbox")]
    assert NodeConfig(host=host).serves_others
    with pytest.raises(UnsafeError, match="there is no sandbox"):
        check(NodeConfig(host=host), gaps)
    check(NodeConfig(host=host, sandbox="none"), gaps)
    check(NodeConfig(host=host), [])
    check(NodeConfig(), gaps)


def test_it_does_when_told_to_and_says_it(start_node: Starter) -> None:
    node = start_node(many_users=True, sandbox="none")
    assert "switched off" in status(node)["sandbox"]
    assert "without a sandbox" in texts(node.completed(Request(shell("true"))))


@pytest.mark.bwrap
def test_with_a_sandbox_it_starts_for_others_and_tells_of_none(start_node: Starter) -> None:
    node = start_node(many_users=True)
    assert "sandbox" not in status(node)
    assert "without a sandbox" not in texts(node.completed(Request(shell("true"))))


@pytest.mark.bwrap
def test_limits_that_are_looked_at_are_told_to_who_asks_and_in_no_session(
    start_node: Starter, capfd: pytest.CaptureFixture[str]
) -> None:
    node = start_node()
    told = status(node)
    assert "session_gib" in told["disk"]
    groups = Groups()
    for what, why in (("processes", groups.why), ("memory", groups.why_no_memory)):
        assert (why is None) == (what not in told)
        assert why is None or ("looked at" in told[what] and why in told[what])
    said = texts(node.completed(Request(shell("true"), network={"access": False})))
    assert not any(text in said for what, text in told.items() if what in ("memory", "disk", "processes"))
    until((node.state / "unenforced.json").exists)
    kept = {gap["what"]: gap for gap in json.loads((node.state / "unenforced.json").read_text())}
    assert kept["disk"] == {"what": "disk", "text": told["disk"], "quiet": True}
    log = capfd.readouterr().err
    assert not any(
        "WARNING" in line for line in log.splitlines() if "looked at" in line or "session_gib" in line
    )


def test_a_disk_with_a_limit_is_looked_at(start_node: Starter) -> None:
    assert "looked at" in status(start_node(session_gib=1.5))["disk"]


def test_a_file_of_before_can_be_read() -> None:
    (gap,) = GAPS.validate_json('[{"what": "sandbox", "text": "there is none"}]')
    assert not gap.quiet


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs nodes as root")
def test_running_as_root_is_told(start_node: Starter, capfd: pytest.CaptureFixture[str]) -> None:
    node = start_node()
    assert "runs as root" in status(node)["user"]
    assert "runs as root" in capfd.readouterr().err
