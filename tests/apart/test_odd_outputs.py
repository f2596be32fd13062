"""What a command may leave in its output that is no plain file, and odd names, where nothing is shared.

A first step makes it, a second one gets the folder or file, perhaps at the other node, and the user downloads
it: each sees the same, or the run says what is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.apart.conftest import Sites
from tests.apart.workflows import at, found, sh, workflow
from wes_bridge.cli.flow import reasons

LIST = sh(
    'cd "$1" && find . -mindepth 1 -exec stat -c "%n %F %s" {} + | LC_ALL=C sort',
    {"d": "Directory"},
    {"o": "stdout"},
    stdout="list.txt",
)
PYTHON = sys.executable


def made(script: str) -> dict[str, Any]:
    """Makes the folder ``d`` at one node; the other one lists it."""
    make = sh(f"mkdir d; cd d; {script}", {}, {"o": found("d", "Directory")})
    return workflow(
        {},
        {"dir": "Directory make/o", "list": "File list/o"},
        {"make": at("one", make, {}), "list": at("two", LIST, {"d": "make/o"})},
    )


def run(sites: Sites, folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    (folder / "w.cwl").write_text(json.dumps(document))
    return sites.service.run(folder / "w.cwl", {})


def said(sites: Sites, run: dict[str, Any]) -> str:
    tasks = sites.service.client.tasks(run["run_id"])
    logs = [line for task in tasks for line in task.get("system_logs") or ()]
    return " ".join([*reasons(sites.service.client, run), *run["run_log"].get("system_logs", ()), *logs])


def downloaded(sites: Sites, run: dict[str, Any], folder: Path) -> tuple[Path, list[str]]:
    """The folder, and what the second step saw in it."""
    assert run["state"] == "COMPLETE", said(sites, run)
    outputs = sites.service.client.download(run["run_id"], folder / "out")
    return Path(outputs["dir"]["path"]), Path(outputs["list"]["path"]).read_text().splitlines()


@pytest.mark.parametrize(
    "name", ["a#b", "a%20b", "a%b", "a:b", "a b", "a\nb", "ä", "'\"", "*?[x]", "-x", ".x", "a\\b", "a;b&c|d"]
)
def test_names(sites: Sites, tmp_path: Path, name: str) -> None:
    """A file and a folder of that name, and a file in the folder."""
    quoted = "'" + name.replace("'", "'\\''") + "'"
    script = f"printf inside > ./{quoted}; mkdir e; mkdir e/{quoted}; printf deeper > e/{quoted}/{quoted}"
    folder, lines = downloaded(sites, run(sites, tmp_path, made(script)), tmp_path)
    assert (folder / name).read_text() == "inside"
    assert (folder / "e" / name / name).read_text() == "deeper"
    assert f"./{name} regular file 6" in lines or "\n" in name


@pytest.mark.parametrize("name", ["a#b", "a%20b", "a:b", "a b", "ä", "a\nb"])
def test_a_file_of_such_a_name_goes_from_step_to_step(sites: Sites, tmp_path: Path, name: str) -> None:
    quoted = "'" + name + "'"
    make = sh(f"printf inside > {quoted}", {}, {"o": found("*")})
    show = sh('basename "$1"; cat "$1"', {"f": "File"}, {"o": "stdout"}, stdout="o.txt")
    document = workflow(
        {},
        {"file": "File make/o", "text": "File show/o"},
        {"make": at("one", make, {}), "show": at("two", show, {"f": "make/o"})},
    )
    ended = run(sites, tmp_path, document)
    assert ended["state"] == "COMPLETE", said(sites, ended)
    outputs = sites.service.client.download(ended["run_id"], tmp_path / "out")
    assert Path(outputs["text"]["path"]).read_text() == f"{name}\ninside"
    assert outputs["file"]["basename"] == name
    assert Path(outputs["file"]["path"]).read_text() == "inside"


def test_a_name_that_is_no_text_is_told(sites: Sites, tmp_path: Path) -> None:
    ended = run(sites, tmp_path, made("""printf x > "$(printf 'a\\377b')"; printf y > fine"""))
    assert ended["state"] == "EXECUTOR_ERROR"
    assert "has a name that is not UTF-8, so it cannot be handed out" in said(sites, ended), said(
        sites, ended
    )


SOCKET = f"""{PYTHON} -c 'import socket; socket.socket(socket.AF_UNIX).bind("thing")'"""


@pytest.mark.parametrize(("script", "kind"), [("mkfifo thing", "a named pipe (FIFO)"), (SOCKET, "a socket")])
def test_what_is_no_file_is_not_waited_for(sites: Sites, tmp_path: Path, script: str, kind: str) -> None:
    ended = run(sites, tmp_path, made(f"{script}; printf y > fine"))
    assert ended["state"] == "EXECUTOR_ERROR"
    words = said(sites, ended)
    assert f"d/thing is not kept by the node that made it: it is {kind}" in words, words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_not_read(sites: Sites, tmp_path: Path) -> None:
    """A sandbox allows none; where one is made all the same, it is told."""
    ended = run(sites, tmp_path, made("mknod thing c 1 5 || exit 9; printf y > fine"))
    assert ended["state"] == "EXECUTOR_ERROR"
    words = said(sites, ended)
    assert "thing" in words or "exit code 9" in words, words


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../../../../../etc/passwd", "/proc/self/environ", "/"]
)
def test_a_link_out_of_the_output_is_told_and_not_followed(sites: Sites, tmp_path: Path, target: str) -> None:
    ended = run(sites, tmp_path, made(f"ln -s {target} way; printf y > fine"))
    assert ended["state"] == "EXECUTOR_ERROR"
    words = said(sites, ended)
    assert (
        f"d/way is not kept by the node that made it: a link to {target}, which is not in the output" in words
    ), words
    assert "root:" not in words


def test_links_and_hard_links_among_outputs(sites: Sites, tmp_path: Path) -> None:
    """Each name has the content; none is the other's any more once it is downloaded."""
    script = "printf one > a; ln a b; mkdir s; ln a s/c; ln -s a l; ln -s s k"
    folder, lines = downloaded(sites, run(sites, tmp_path, made(script)), tmp_path)
    for name in ("a", "b", "s/c", "l", "k/c"):
        assert (folder / name).read_text() == "one", name
    assert "./b regular file 3" in lines
    (folder / "b").write_text("two")
    assert (folder / "a").read_text() == "one"


def test_a_link_in_a_circle_is_told(sites: Sites, tmp_path: Path) -> None:
    ended = run(sites, tmp_path, made("ln -s b a; ln -s a b; printf y > fine"))
    assert ended["state"] == "EXECUTOR_ERROR"
    assert "which leads back to itself" in said(sites, ended), said(sites, ended)


def test_nodes_are_as_well_as_before(sites: Sites, tmp_path: Path) -> None:
    """Nothing of all that has hurt them."""
    folder, lines = downloaded(sites, run(sites, tmp_path, made("printf y > fine")), tmp_path)
    assert (folder / "fine").read_text() == "y"
    assert lines == ["./fine regular file 1"]
