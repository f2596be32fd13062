"""What an output has that its node does not keep: nobody misses it without being told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apart.conftest import Sites
from tests.apart.test_runs import submitted, text_of
from tests.apart.workflows import at, found, sh, workflow
from wes_bridge.cli.flow import reasons

FOLDER = found("o", "Directory")
LEFT_OUT = {
    "fifo": ("mkfifo o/x", "o/x is not kept by the node that made it: it is a named pipe (FIFO)"),
    "link": ("ln -s /etc/passwd o/x", "a link to /etc/passwd, which is not in the output"),
    "up": ("ln -s ../.. o/x", "a link to ../.., which is not in the output"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_an_output_of_the_run_that_is_not_all_there_is_none(sites: Sites, tmp_path: Path, what: str) -> None:
    """As where a disk is shared."""
    command, words = LEFT_OUT[what]
    document = sh(f"mkdir o; seq 1 300000 > o/f; {command}", {}, {"o": FOLDER})
    run = submitted(sites, tmp_path, document, {})
    assert run["state"] == "EXECUTOR_ERROR"
    assert words in "\n".join(reasons(sites.service.client, run))


@pytest.mark.parametrize(("command", "words"), [("mkfifo x", "pipe"), ("ln -s /etc/passwd x", "/etc/passwd")])
def test_a_glob_that_finds_what_was_not_kept_says_so(
    sites: Sites, tmp_path: Path, command: str, words: str
) -> None:
    run = submitted(sites, tmp_path, sh(command, {}, {"o": found("x")}), {})
    assert run["state"] == "EXECUTOR_ERROR"
    told = "\n".join(reasons(sites.service.client, run))
    assert words in told
    assert "not kept by the node" in told


def test_what_no_output_takes_is_in_nobodys_way(sites: Sites, tmp_path: Path) -> None:
    document = sh("mkfifo x; ln -s /etc/passwd y; echo hi > f", {}, {"o": found("f")})
    run = submitted(sites, tmp_path, document, {})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert text_of(run["outputs"]["o"]) == "hi\n"


@pytest.mark.parametrize("copied", [False, True])
def test_a_link_beside_a_file_does_not_make_it_executable(sites: Sites, tmp_path: Path, copied: bool) -> None:
    make = sh("mkdir o; seq 1 9 > o/f; ln -s f o/l", {}, {"o": FOLDER})
    take = sh(
        "find -L work -type f -perm /111",
        {"d": "Directory"},
        {"r": "stdout"},
        stdout="r.txt",
        requirements={
            "InitialWorkDirRequirement": {
                "listing": [{"entry": "$(inputs.d)", "entryname": "work", "writable": copied}]
            }
        },
    )
    steps = {"a": at("one", make, {}), "b": at("two", take, {"d": "a/o"})}
    run = submitted(sites, tmp_path, workflow({}, {"r": "File b/r"}, steps), {})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert text_of(run["outputs"]["r"]) == ""
