"""A container's environment: exact, on no command line, and nothing that the engine obeys."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, Starter
from tests.node.test_container import boxes, container, image
from tests.waiting import until
from wes_bridge.node.platforms.container_env import told

__all__ = ["boxes", "image"]
pytestmark = pytest.mark.podman

VALUES = {
    "PLAIN": "value",
    "EMPTY": "",
    "SPACES": "  a  b ",
    "QUOTES": "\"a\" 'b' `c` $HOME ${PATH} \\n",
    "SINGLE_QUOTED": "'all'",
    "LINES": "first\nsecond\n\nfourth",
    "RETURN": "a\r\nb\r",
    "TAB": "\ta\t",
    "HASH": "#no comment",
    "EQUALS": "a=b=c",
    "UMLAUT": "äöü €",
    "LONG": "x" * 70_000,
    "LATIN": "caf\udce9",
    "LD_PRELOAD_2": 'odd "and" obeyed?\n',
}


def test_every_value_arrives_as_it_is(boxes: NodeProcess) -> None:
    names = [name for name in VALUES if name != "LATIN"]  # JSON cannot carry that one
    script = "; ".join(f'printf "%s\\0" "${name}"' for name in names)
    request = Request(container("/bin/sh", "-c", script, environment={name: VALUES[name] for name in names}))
    found = boxes.http.get(f"{boxes.url}/streams/{boxes.completed(request)['meta']['uuid']}/stdout").content
    assert dict(zip(names, (text.decode() for text in found.split(b"\0")), strict=False)) == {
        name: VALUES[name] for name in names
    }


def test_a_secret_is_on_no_command_line_and_is_not_kept(boxes: NodeProcess) -> None:
    secret, key = "s3cret-canary-1", "-----BEGIN KEY-----\ns3cret-canary-2\n"
    request = Request(container("/bin/sh", "-c", "sleep 3", environment={"TOKEN": secret, "KEY": key}))
    session = boxes.until(boxes.begin(request), lambda now: now["phase"] == "RUNNING")
    uuid = session["meta"]["uuid"]
    until(lambda: any(uuid in line for line in command_lines()))
    assert [line for line in command_lines() if "s3cret-canary" in line] == []
    boxes.end(session)
    folder = boxes.state / "sessions" / uuid
    assert [path for path in folder.rglob("*") if path.is_file() and b"canary-1" in path.read_bytes()] == []


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def test_nothing_that_a_step_says_acts_on_the_engine(boxes: NodeProcess, tmp_path: Path) -> None:
    """Were one of these obeyed, the engine would not find its images, or make the canary."""
    canary = tmp_path / "canary"
    helper = tmp_path / "podman"
    helper.write_text(f"#!/bin/sh\ntouch {canary}\n")
    helper.chmod(0o755)
    (tmp_path / "conf").write_text(f'[engine]\nhelper_binaries_dir=["{tmp_path}"]\nruntime="{helper}"\n')
    hostile = {
        "PATH": f"{tmp_path}:/bin",
        "LD_PRELOAD": f"{tmp_path}/evil.so",
        "DOCKER_HOST": "unix:///nonexistent/\n'",
        "CONTAINER_HOST": "unix:///nonexistent/\n",
        "CONTAINERS_CONF": f"{tmp_path}/conf",
        "CONTAINERS_CONF_OVERRIDE": f"{tmp_path}/conf\n",
        "CONTAINERS_STORAGE_CONF": "/nonexistent",
        "STORAGE_OPTS": "a\nb",
        "HOME": "/nonexistent/\n",
        "XDG_RUNTIME_DIR": "/nonexistent/'",
        "TMPDIR": "/nonexistent/'",
        "http_proxy": "http://'",
        "GODEBUG": "'\n",
    }
    script = 'printf "%s|" ' + " ".join(f'"${name}"' for name in hostile)
    session = boxes.completed(Request(container("/bin/sh", "-c", script, environment=hostile)))
    assert boxes.stream(session).split("|")[:-1] == list(hostile.values())
    assert not canary.exists()


@pytest.mark.parametrize("name", ["WES*", "A B", "1A", "A-B", "#A"])
def test_a_name_that_is_none_shows_nothing_of_ours(name: str) -> None:
    """An engine takes the first one, without a value, for all variables of ours that begin so."""
    environment = told({name: "value"})
    assert environment.words == ["--env", f"{name}=value"]
    assert (environment.lines, environment.own) == ([], {})


def test_what_goes_where() -> None:
    environment = told(VALUES)
    lines = [line.partition("=")[0] for line in environment.lines]
    assert lines == ["PLAIN", "EMPTY", "EQUALS", "UMLAUT"]
    assert {"LINES", "QUOTES", "LONG", "SPACES"} <= set(environment.own)
    assert "LD_PRELOAD_2" not in environment.own
    assert not any("LD_PRELOAD_2" in line for line in environment.lines)


def test_the_machines_loopback_is_out_of_a_containers_reach(boxes: NodeProcess) -> None:
    port = boxes.url.rpartition(":")[2]
    script = (
        f"for host in 127.0.0.1 10.0.2.2 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p');"
        f" do wget -q -T 2 -O - http://$host:{port}/status && echo in; done; echo done"
    )
    assert boxes.stream(boxes.completed(Request(container("/bin/sh", "-c", script)))) == "done\n"


def test_not_even_where_the_engine_is_told_to_share_the_machines(
    start_node: Starter, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "podman" not in (shutil.which("podman") or ""):
        pytest.skip("only podman has such a setting")
    conf = tmp_path / "containers.conf"
    before = Path(os.environ["CONTAINERS_CONF"]).read_text() if "CONTAINERS_CONF" in os.environ else ""
    conf.write_text(
        before.replace("[containers]", '[containers]\nnetns = "host"') or '[containers]\nnetns="host"\n'
    )
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    look = Request(
        container("/bin/sh", "-c", f"ls /sys/class/net > {ROOT}/out/x; readlink /proc/self/ns/net")
    )
    ours = str(Path("/proc/self/ns/net").readlink())
    node = start_node(platforms=["container"], pull_images=False)
    assert node.stream(node.completed(look)).strip() not in ("", ours)
    node = start_node(platforms=["container"], pull_images=False, step_network="machine")
    assert node.stream(node.completed(look)).strip() == ours
