"""Steps try to get out of what holds them, as root and as an ordinary user; then canaries are looked at."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import ROOT, Request, process, shell, texts
from tests.node.test_container import container, image
from tests.security.ground import SECRET, Ground, ground, may_run, users
from tests.waiting import until

__all__ = ["image"]
HERE = Path(__file__).parent
SANDBOXES = ("bwrap", "own")


@pytest.fixture(scope="module", params=users())
def user(request: pytest.FixtureRequest) -> int:
    reason = may_run(request.param)
    if reason:
        pytest.skip(reason)
    return int(request.param)


@pytest.fixture(scope="module", params=[pytest.param(one, marks=pytest.mark.bwrap) for one in SANDBOXES])
def place(request: pytest.FixtureRequest, user: int) -> Iterator[Ground]:
    with ground(user, {"platforms": ["process"], "sandbox": request.param}) as made:
        answer = made.node.ask(Request(shell("true")))
        if answer["result"] != "YES":
            pytest.skip(str(answer["meta"]["messages"]))
        yield made


@pytest.fixture(scope="module")
def boxes(image: str) -> Iterator[Ground]:
    with ground(os.geteuid(), {"platforms": ["container"], "pull_images": False}) as made:
        yield made


def python(place: Ground, *words: str, **more: Any) -> dict[str, Any]:
    path = shutil.which("python3", path="/usr/bin:/bin")
    if path is None:
        pytest.skip("the system has no python3")
    return process(path, "-I", *words, **{"environment": {"PATH": "/usr/bin:/bin"}, **more})


def isolates(place: Ground) -> bool:
    """Whether steps with a network have one of their own here."""
    until(lambda: "unenforced" in place.node.http.get(f"{place.node.url}/status").json())
    return "loopback" not in place.node.http.get(f"{place.node.url}/status").json()["unenforced"]


def everything_stands(place: Ground) -> None:
    """What a step should not have touched is as it was."""
    assert place.touched == []
    assert place.node.http.get(f"{place.node.url}/health").status_code == 200
    assert (place.home / ".ssh" / "id_canary").read_text() == SECRET
    made = [place.node.state / "made-by-a-step", place.folder / "other" / "made-by-a-step"]
    made += [Path(f"{folder}/wb-made") for folder in ("/etc", "/usr", "", "/var/tmp", "/run")]
    assert [path for path in made if path.exists()] == []


def nothing_got_out(place: Ground, session: dict[str, Any], out: Path) -> None:
    """Neither by rights of an output, nor by what a link in it leads to."""
    program = out / "program"
    assert stat.S_IMODE(program.stat().st_mode) & (stat.S_ISUID | stat.S_ISGID) == 0
    for path in out.rglob("*"):
        assert not stat.S_ISBLK(path.lstat().st_mode)
        assert not stat.S_ISCHR(path.lstat().st_mode)
        if path.is_file() and not path.is_symlink():
            assert SECRET not in path.read_text(errors="replace"), path
    for name in ("stdout", "stderr"):
        assert SECRET not in place.node.stream(session, name)
    for name in ("link", "folder", "folder/.ssh/id_canary", "environment"):
        answer = place.node.http.get(f"{place.node.url}/streams/{session['meta']['uuid']}/{name}")
        assert SECRET not in answer.text


@pytest.mark.parametrize("network", [False, True], ids=["without network", "with network"])
def test_a_sandboxed_step(place: Ground, network: bool) -> None:
    node = place.node
    if network and not isolates(place):
        pytest.skip("steps with a network have the machine's here")
    node.completed(Request(shell(f"echo {SECRET} > of-another-session; echo {SECRET}")))
    program = (HERE / "attempts.py").read_text()
    script = python(place, "-c", program, json.dumps(place.facts()), network={"access": network})
    out = place.folder / f"out-{network}"
    session = node.end(node.begin(Request(script).output(out)))
    told = node.stream(session).splitlines()
    assert [line for line in told if line.startswith(("OUT", "BROKEN"))] == []
    assert told[-1:] and told[-1].startswith("tried "), (texts(session), node.stream(session, "stderr"))
    everything_stands(place)
    if session["phase"] == "COMPLETED":
        nothing_got_out(place, session, out)


def test_all_that_a_step_can_kill_is_its_own(place: Ground) -> None:
    place.node.run(Request(shell("kill -9 -1; kill -9 1; sleep 0.1")))
    for pid in place.pids[:3]:
        assert Path(f"/proc/{pid}").exists()
    assert place.node.stream(place.node.completed(Request(shell("echo on")))) == "on\n"
    everything_stands(place)


def test_what_a_step_leaves_running_ends_with_it(place: Ground, nap: str) -> None:
    script = (
        f"setsid sleep {nap} >/dev/null 2>&1 & (setsid sh -c 'trap \"\" TERM HUP; sleep {nap}' &) ; exit 0"
    )
    place.node.run(Request(shell(script)))
    # bubblewrap tells the end of its command a moment before the kernel has ended the rest
    until(lambda: not any(nap in line for line in command_lines()), 20)


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.parametrize("name", ["PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR"])
def test_a_variable_shows_nothing(place: Ground, name: str) -> None:
    """A step names folders in its environment; none of them is there because of that."""
    folders = f"{place.node.state}:{place.folder}/other:{place.home}:/usr/bin:/bin"
    script = f"cat {place.home}/.ssh/id_canary {place.folder}/other/* {place.node.state}/node.db"
    environment = {"PATH": "/usr/bin:/bin", name: folders}
    session = place.node.run(Request(shell(script, environment=environment)))
    assert SECRET not in place.node.stream(session)
    assert session["phase"] == "FAILED"


def test_a_library_that_is_preloaded_acts_inside(place: Ground) -> None:
    canary = place.home / "preloaded"
    source, library = place.folder / "evil.c", place.folder / "evil.so"
    source.write_text(
        "#include <fcntl.h>\n__attribute__((constructor)) static void on(void)"
        f'{{ open("{canary}", O_CREAT | O_WRONLY, 0666); }}\n'
    )
    if (
        not shutil.which("cc")
        or subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", library, source], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("there is no C compiler")
    library.chmod(0o755)
    for name in ("LD_PRELOAD", "LD_AUDIT"):
        place.node.run(Request(shell("true", environment={"PATH": "/usr/bin:/bin", name: str(library)})))
    assert not canary.exists()


def test_a_container(boxes: Ground) -> None:
    facts = boxes.facts()
    environment = {
        "SECRET": SECRET[:-1] + "[" + SECRET[-1] + "]",  # a pattern, which does not find itself
        "HOME_": facts["home"],
        "STATE": facts["state"],
        "OTHER": facts["other_state"],
        "WAKEUP": facts["wakeup"],
        "PORT": str(facts["port"]),
        "LOOPBACK": str(facts["loopback"]),
        "PIDS": " ".join(map(str, facts["pids"])),
    }
    script = (HERE / "attempts.sh").read_text()
    out = boxes.folder / "out"
    request = Request(container("/bin/sh", "-c", script, environment=environment)).output(out, f"{ROOT}/out")
    session = boxes.node.end(boxes.node.begin(request))
    told = boxes.node.stream(session).splitlines()
    assert [line for line in told if line.startswith("OUT")] == []
    assert told[-1:] == ["tried"], (texts(session), boxes.node.stream(session, "stderr"))
    everything_stands(boxes)
    if session["phase"] == "COMPLETED":
        nothing_got_out(boxes, session, out)
