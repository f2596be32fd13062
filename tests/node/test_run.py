"""Sessions that run: streams, exit codes, limits, cancelling, long polls."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, Starter, process, session_kinds, shell, texts

UNENFORCED = {"urn:wes-bridge:unenforced"}
"""Kinds of messages by which a node without a sandbox says so."""


@pytest.fixture(params=["node", "plain"])
def both(request: pytest.FixtureRequest) -> NodeProcess:
    """With and without a sandbox."""
    return request.getfixturevalue(request.param)


def alive(needle: str) -> list[int]:
    """Processes with ``needle`` in their command line."""
    found = []
    for candidate in psutil.process_iter(["cmdline"]):
        if any(needle == word for word in candidate.info["cmdline"] or ()):
            found.append(candidate.pid)
    return found


def gone(needle: str, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while alive(needle):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_success(both: NodeProcess) -> None:
    session = both.run(Request(shell("echo out; echo err >&2")))
    assert session["phase"] == "COMPLETED"
    executable = session["executable"]
    assert executable["exitCode"] == 0
    assert executable["started"] <= executable["finished"]
    assert executable["phase"] == session["compute"]["phase"] == "COMPLETED"
    assert both.stream(session, "stdout") == "out\n"
    assert both.stream(session, "stderr") == "err\n"
    assert both.http.get(executable["streams"]["stderr"]["locations"][0]).text == "err\n"


def test_environment_is_what_was_asked_for(both: NodeProcess) -> None:
    odd = "two\nlines $HOME 'quoted' \"twice\" ä"
    request = Request(process("/usr/bin/env", "-0", environment={"HOME": f"{ROOT}/out", "ODD": odd}))
    session = both.completed(request)
    lines = both.stream(session).rstrip("\0").split("\0")
    environment = dict(line.split("=", 1) for line in lines)
    assert environment.pop("HOME").endswith("/fs/out")
    assert environment.pop("ODD") == odd
    assert environment.pop("PATH")
    assert set(environment) <= {"PWD", "WES_BRIDGE_SESSION"}


@pytest.mark.parametrize("code", [1, 42, 255])
def test_exit_codes(both: NodeProcess, code: int) -> None:
    session = both.run(Request(shell(f"exit {code}")))
    assert session["phase"] == "FAILED"
    assert session["executable"]["exitCode"] == code
    assert session["compute"]["phase"] == "FAILED"
    [message] = [told for told in session["meta"]["messages"] if told["level"] != "INFO"]
    assert message["kind"] == "urn:wes-bridge:exit-code"
    assert message["values"]["exitCode"] == str(code)
    assert message["template"] == "the command ended with exit code {exitCode}"


def test_success_codes(both: NodeProcess) -> None:
    session = both.run(Request(shell("exit 3", successCodes=[0, 3])))
    assert session["phase"] == "COMPLETED"
    assert session["executable"]["exitCode"] == 3
    assert both.run(Request(shell("exit 0", successCodes=[3])))["phase"] == "FAILED"


def test_a_closed_pipe_ends_its_writer_quietly(both: NodeProcess) -> None:
    """Python ignores SIGPIPE; what it starts must not."""
    session = both.completed(Request(shell("yes | head -n 1")))
    assert both.stream(session, "stdout") == "y\n"
    assert both.stream(session, "stderr") == ""


def test_death_by_signal(both: NodeProcess) -> None:
    session = both.run(Request(shell("kill -SEGV $$")))
    assert session["phase"] == "FAILED"
    assert session["executable"]["exitCode"] == 139
    assert "SIGSEGV" in texts(session)
    assert "Segmentation" not in both.stream(session, "stderr")


def test_command_that_is_not_there(both: NodeProcess) -> None:
    session = both.run(Request(process("no-such-command-here")))
    assert session["phase"] == "FAILED"
    assert session["executable"]["exitCode"] == 127
    assert "no-such-command-here" in texts(session)
    session = both.run(Request(process("/etc/passwd")))
    assert session["executable"]["exitCode"] == 126


def test_command_beside_the_work_directory(both: NodeProcess) -> None:
    script = "data:,%23!/bin/sh%0Aecho%20relative%0A"
    request = Request(shell("chmod +x run.sh; ./run.sh"))
    request.data(f"{ROOT}/out/run.sh", script, "READWRITE", copy=True)
    assert both.stream(both.completed(request)) == "relative\n"


def test_odd_words_reach_the_command(both: NodeProcess) -> None:
    words = ["a b", "", "$HOME", "*", "-n", "ä\n", "'", '"', "\\"]
    session = both.completed(Request(process("printf", "[%s]", *words)))
    assert both.stream(session) == "".join(f"[{word}]" for word in words)


def test_stdin(both: NodeProcess) -> None:
    request = Request(process("cat", streams={"stdin": {"path": f"{ROOT}/in/text"}}))
    request.data(f"{ROOT}/in/text", "data:;base64,aGVsbG8=")
    assert both.stream(both.completed(request)) == "hello"
    assert both.stream(both.completed(Request(process("cat")))) == ""


def test_streams_into_the_work_directory(both: NodeProcess, tmp_path: Path) -> None:
    streams = {"stdout": {"path": "deep/out.txt"}, "stderr": {"path": "err.txt"}}
    request = Request(shell("echo o; echo e >&2", streams=streams)).output(tmp_path / "result")
    session = both.completed(request)
    assert (tmp_path / "result/deep/out.txt").read_text() == "o\n"
    assert (tmp_path / "result/err.txt").read_text() == "e\n"
    assert both.stream(session, "stdout") == "o\n"
    assert both.stream(session, "stderr") == "e\n"
    session = both.completed(Request(shell("echo kept", streams=streams)))
    time.sleep(0.3)
    assert both.stream(session) == "kept\n"
    same = {"stdout": {"path": "log"}, "stderr": {"path": "log"}}
    session = both.completed(Request(shell("echo o; echo e >&2", streams=same)))
    assert both.stream(session) == both.stream(session, "stderr") == "o\ne\n"


def test_stream_does_not_write_through_an_input(both: NodeProcess, tmp_path: Path) -> None:
    source = tmp_path / "precious"
    source.write_text("precious")
    streams = {"stdout": {"path": "precious"}}
    request = Request(shell("echo new", streams=streams)).data(f"{ROOT}/out/precious", source.as_uri())
    both.completed(request.output(tmp_path / "result"))
    assert source.read_text() == "precious"
    assert (tmp_path / "result/precious").read_text() == "new\n"


def test_streams_and_ranges_while_running(both: NodeProcess) -> None:
    script = "echo 0123456789; while [ ! -e go ]; do sleep 0.02; done; echo end"
    request = Request(shell(script))
    session = both.until(both.begin(request), lambda s: s["phase"] == "RUNNING")
    deadline = time.monotonic() + 60
    while both.stream(session) != "0123456789\n":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    url = f"{both.url}/streams/{session['meta']['uuid']}/stdout"
    for header, status, text, span in [
        ("bytes=0-3", 206, "0123", "bytes 0-3/11"),
        ("bytes=4-", 206, "456789\n", "bytes 4-10/11"),
        ("bytes=-3", 206, "89\n", "bytes 8-10/11"),
        ("bytes=11-", 416, "", "bytes */11"),
        ("bytes=0-3,5-6", 200, "0123456789\n", None),
        ("lines=1-2", 200, "0123456789\n", None),
        ("bytes=5-2", 200, "0123456789\n", None),
        ("bytes=-0", 416, "", "bytes */11"),
        ("bytes=2-999999999999999999", 206, "23456789\n", "bytes 2-10/11"),
    ]:
        answer = both.http.get(url, headers={"Range": header})
        assert (answer.status_code, answer.text) == (status, text), header
        assert answer.headers.get("content-range") == span
    both.update(session, "CANCELLED")
    both.end(session)
    assert both.stream(session) == "0123456789\n"
    offer = both.offer(Request(shell("true")))
    assert both.http.get(f"{both.url}/streams/{offer['meta']['uuid']}/stdout").status_code == 404


def test_the_head_of_a_stream_and_of_a_session(node: NodeProcess) -> None:
    session = node.completed(Request(shell("echo 12345")))
    url = f"{node.url}/streams/{session['meta']['uuid']}/stdout"
    whole, part = node.http.head(url), node.http.head(url, headers={"Range": "bytes=2-"})
    assert (whole.status_code, whole.headers["content-length"], whole.content) == (200, "6", b"")
    assert (part.status_code, part.headers["content-range"]) == (206, "bytes 2-5/6")
    assert node.http.head(node.at(session)).headers["etag"]


def test_large_stream(both: NodeProcess) -> None:
    session = both.completed(Request(shell("head -c 3000000 /dev/zero | tr '\\0' x")))
    assert both.stream(session) == "x" * 3_000_000
    assert both.stream(session, Range="bytes=1000000-1999999") == "x" * 1_000_000


def test_long_poll(node: NodeProcess) -> None:
    session = node.begin(Request(shell("while [ ! -e go ]; do sleep 0.02; done")))
    session = node.until(session, lambda s: s["phase"] == "RUNNING")
    url = node.at(session)
    etag = node.http.get(url).headers["etag"]
    start = time.monotonic()
    answer = node.http.get(url, headers={"Prefer": "respond-async, wait=1", "If-None-Match": etag})
    assert answer.status_code == 304
    assert 0.9 < time.monotonic() - start < 20
    assert answer.headers["etag"] == etag
    assert answer.headers["preference-applied"] == "wait=1"
    start = time.monotonic()
    answer = node.http.get(url, headers={"Prefer": "wait=60", "If-None-Match": '"other"'})
    assert answer.status_code == 200
    assert time.monotonic() - start < 40
    answer = node.http.get(url, headers={"If-None-Match": etag})
    assert answer.status_code == 304
    timer = threading.Timer(0.3, lambda: node.update(session, "CANCELLED"))
    timer.start()
    start = time.monotonic()
    answer = node.http.get(url, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    assert time.monotonic() - start < 40
    timer.join()
    assert node.end(session)["phase"] == "CANCELLED"
    answer = node.http.get(url, headers={"Prefer": "wait=20"})
    assert answer.json()["phase"] == "CANCELLED"


def test_quick_command_is_told_in_few_polls(node: NodeProcess) -> None:
    session = node.begin(Request(process("true")))
    polls = 0

    def done(now: dict) -> bool:
        nonlocal polls
        polls += 1
        return now["phase"] == "COMPLETED"

    node.until(session, done)
    assert polls <= 4


def test_time_limit(both: NodeProcess, nap: str) -> None:
    start = time.monotonic()
    session = both.run(Request(shell(f"sleep {nap} & sleep {nap}", timeLimit=1)))
    assert session["phase"] == "FAILED"
    assert 0.8 < time.monotonic() - start < 25
    assert session_kinds(session) - UNENFORCED == {"urn:wes-bridge:time-limit"}
    assert "1 s" in texts(session)
    assert "exitCode" not in session["executable"]
    assert gone(nap)


def test_memory_limit(both: NodeProcess) -> None:
    program = "x = b'x' * 300_000_000; import time; time.sleep(20)"
    request = Request(process("python3", "-c", program), memory={"maxBytes": 100_000_000})
    session = both.run(request)
    assert session["phase"] == "FAILED"
    assert session_kinds(session) - UNENFORCED == {"urn:wes-bridge:memory-limit"}
    assert "100000000" in texts(session)


def test_few_cores(both: NodeProcess) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    request = Request(process("nproc"), cores={"min": 1, "max": 1})
    assert both.stream(both.completed(request)) == "1\n"
    assert int(both.stream(both.completed(Request(process("nproc"))))) == len(os.sched_getaffinity(0))


def test_cancel_ends_everything(both: NodeProcess, nap: str) -> None:
    script = f"setsid sh -c 'setsid sleep {nap} & sleep {nap}' & trap '' TERM; sleep {nap}; sleep {nap}"
    session = both.until(both.begin(Request(shell(script))), lambda s: s["phase"] == "RUNNING")
    deadline = time.monotonic() + 60
    while len(alive(nap)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    answer = both.update(session, "CANCELLED")
    assert answer["phase"] in ("RUNNING", "CANCELLED")
    session = both.end(session)
    assert session["phase"] == "CANCELLED"
    assert not alive(nap)
    assert "exitCode" not in session["executable"]
    again = both.update(session, "CANCELLED")
    assert again["phase"] == "CANCELLED"


def test_cancel_asks_politely_first(plain: NodeProcess, tmp_path: Path) -> None:
    script = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; while :; do sleep 0.05; done"
    session = plain.until(plain.begin(Request(shell(script))), lambda s: s["phase"] == "RUNNING")
    time.sleep(0.2)
    plain.update(session, "CANCELLED")
    assert plain.end(session)["phase"] == "CANCELLED"
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_client_may_fail_a_session(node: NodeProcess) -> None:
    session = node.until(node.begin(Request(shell("sleep 620"))), lambda s: s["phase"] == "RUNNING")
    node.update(session, "FAILED")
    session = node.end(session)
    assert session["phase"] == "FAILED"
    assert "urn:wes-bridge:stopped-by-client" in session_kinds(session)


def test_cancel_while_being_started(node: NodeProcess, nap: str) -> None:
    for _ in range(10):
        session = node.begin(Request(shell(f"sleep {nap}")))
        node.update(session, "CANCELLED")
        assert node.end(session)["phase"] == "CANCELLED"
    assert gone(nap)


def test_background_children_do_not_outlive_the_command(
    node: NodeProcess, need_bwrap: None, nap: str
) -> None:
    session = node.run(Request(shell(f"setsid sleep {nap} >/dev/null 2>&1 & exit 0")))
    assert session["phase"] == "COMPLETED"
    assert gone(nap)


def test_many_at_once(node: NodeProcess) -> None:
    sessions = [node.begin(Request(shell(f"echo {number}"))) for number in range(60)]
    for number, session in enumerate(sessions):
        assert node.end(session)["phase"] == "COMPLETED"
        assert node.stream(session) == f"{number}\n"


def test_folder_of_an_ended_session_is_small(node: NodeProcess) -> None:
    session = node.completed(Request(shell("echo x; head -c 100000 /dev/zero > big")))
    folder = node.state / "sessions" / session["meta"]["uuid"]
    deadline = time.monotonic() + 60
    while (folder / "fs").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert node.stream(session) == "x\n"


@pytest.mark.bwrap
class TestSandbox:
    """What only a sandbox gives."""

    def test_world_is_read_only(self, node: NodeProcess, need_bwrap: None) -> None:
        for path in ("/etc/wb-test", "/usr/wb-test", str(node.state / "wb-test")):
            session = node.run(Request(shell(f"echo x > {path}")))
            assert not Path(path).exists(), session
        session = node.run(Request(shell("mount -o remount,rw / && echo x > /etc/wb-test")))
        assert session["phase"] == "FAILED"
        assert not Path("/etc/wb-test").exists()

    def test_other_sessions_and_processes_are_hidden(self, node: NodeProcess, need_bwrap: None) -> None:
        other = node.until(node.begin(Request(shell("sleep 620"))), lambda s: s["phase"] == "RUNNING")
        script = f"ls {node.state}/sessions | wc -l; ls {node.state}; ls /proc | grep -c '^[0-9]'; ls /tmp"
        lines = node.stream(node.completed(Request(shell(script)))).split()
        assert lines[0] == "1"
        assert "node.db" not in lines
        assert int(lines[2]) < 10
        node.update(other, "CANCELLED")

    def test_no_network(self, node: NodeProcess, need_bwrap: None) -> None:
        program = "import socket; print([name for _, name in socket.if_nameindex() if name != 'lo'])"
        assert node.stream(node.completed(Request(process("python3", "-c", program)))) != "[]\n"
        without = Request(process("python3", "-c", program, network={"access": False}))
        assert node.stream(node.completed(without)) == "[]\n"


def test_unenforced_network_is_said(plain: NodeProcess) -> None:
    session = plain.completed(Request(process("true", network={"access": False})))
    assert "urn:wes-bridge:unenforced" in session_kinds(session)


def test_stored_session_is_plain_json(node: NodeProcess) -> None:
    session = node.completed(Request(shell("true")))
    assert json.loads(json.dumps(session)) == node.get(session)


def test_streams_grow_at_their_destination(both: NodeProcess, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "stdout"
    script = "echo first; while true; do sleep 0.05; done"
    session = both.begin(Request(shell(script, streams={"stdout": {"destination": kept.as_uri()}})))
    both.until(session, lambda now: now["phase"] == "RUNNING")
    deadline = time.monotonic() + 60
    while not kept.exists() or kept.read_text() != "first\n":
        assert time.monotonic() < deadline, "the stream did not come to its destination"
        time.sleep(0.02)
    both.update(session, "CANCELLED")
    both.end(session)
    assert kept.read_text() == "first\n"


@pytest.mark.parametrize("sandbox", ["own", pytest.param("bwrap", marks=pytest.mark.bwrap)])
def test_tools_of_an_environment_below_tmp_are_found_in_the_sandbox(
    start_node: Starter, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the node was started in, on its PATH; a step's own PATH shows nothing."""
    tool = tmp_path / "venv" / "bin" / "survey-tool"
    tool.parent.mkdir(parents=True)
    (tmp_path / "venv" / "data").write_text("catalogue\n")
    tool.write_text(f"#!/bin/sh\ncat {tmp_path}/venv/data\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    node = start_node(platforms=["process"], sandbox=sandbox)
    request = Request(process("survey-tool"))
    assert node.stream(node.completed(request)) == "catalogue\n"


@pytest.fixture
def excuses(need_bwrap: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder: each file in it is an excuse that bubblewrap, here a stand-in's, gives once."""
    folder = tmp_path / "excuses"
    folder.mkdir()
    stand_in = tmp_path / "bin" / "bwrap"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!/bin/sh\nfor excuse in {folder}/*; do\n"
        'if [ -e "$excuse" ]; then cat "$excuse" >&2; rm "$excuse"; exit 1; fi; done\n'
        f'exec {shutil.which("bwrap")} "$@"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    return folder


def test_a_sandbox_that_cannot_be_made_is_the_nodes_failure(start_node: Starter, excuses: Path) -> None:
    """The command was not begun: another node may do it, which an exit code would not say."""
    excuse = "Creating new namespace failed: Resource temporarily unavailable"
    node = start_node(sandbox="bwrap")
    assert node.run(Request(shell("exit 1")))["executable"]["exitCode"] == 1
    for number in range(10):
        (excuses / str(number)).write_text(f"bwrap: {excuse}\n")
    session = node.run(Request(shell("exit 1")))
    assert session["phase"] == "FAILED"
    assert not {"exitCode", "started"} & session["executable"].keys()
    assert excuse in texts(session)


def test_a_sandbox_that_fails_once_is_made_again(start_node: Starter, excuses: Path) -> None:
    """Another program's mount went while bubblewrap took them all: seen beside podman."""
    excuse = "bwrap: Can't bind mount /oldroot/ on /newroot/: Unable to apply mount flags"
    (excuses / "1").write_text(f"{excuse}: No such file or directory\n")
    node = start_node(sandbox="bwrap")
    assert list(excuses.iterdir()) == []
    (excuses / "2").write_text(f"{excuse}: No such file or directory\n")
    session = node.completed(Request(shell("echo done; echo oops >&2")))
    assert list(excuses.iterdir()) == []
    assert (node.stream(session), node.stream(session, "stderr")) == ("done\n", "oops\n")
    assert "messages" not in session["meta"]


@pytest.mark.parametrize("said", ["bwrap: mine", "bwrap: execvp ./tool: Exec format error"])
def test_what_a_command_says_is_not_the_sandboxes_failure(node: NodeProcess, said: str) -> None:
    session = node.run(Request(shell(f"echo 'no such survey' >&2; echo '{said}' >&2; exit 1")))
    assert session["executable"]["exitCode"] == 1


@pytest.mark.parametrize(
    ("sandbox", "code"),
    # root's bubblewrap has a shell start the command
    [("own", 127), pytest.param("bwrap", 127 if os.geteuid() == 0 else 1, marks=pytest.mark.bwrap)],
)
def test_a_script_without_its_interpreter_is_its_own_failure(
    start_node: Starter, sandbox: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "survey-tool"
    tool.parent.mkdir()
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    node = start_node(platforms=["process"], sandbox=sandbox)
    session = node.run(Request(process("survey-tool")))
    assert session["executable"]["exitCode"] == code
    assert "survey-tool: " in node.stream(session, "stderr")
