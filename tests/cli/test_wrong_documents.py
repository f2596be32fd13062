"""A file that is no workflow, given where one is expected: each command names it and says what it is."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from wes_bridge.bundle import BundleError, make_bundle
from wes_bridge.cli import runner
from wes_bridge.cli.checking import check
from wes_bridge.cli.main import cli

WRONG: list[tuple[str, bytes, list[str]]] = [
    ("job.json", b'{"message": "hi", "n": 3}', ["no 'class'", "inputs (message, n)", "before it"]),
    ("job.yml", b"message: hi\n", ["no 'class'", "inputs (message)"]),
    ("list.yml", b"- a\n- b\n", ["a list"]),
    ("list.cwl", b"[]", ["a list"]),
    ("empty.cwl", b"", ["is empty"]),
    ("comments.cwl", b"# nothing yet\n", ["is empty"]),
    ("text.cwl", b"just words\n", ["plain text"]),
    ("number.cwl", b"3\n", ["a number"]),
    ("elf.cwl", b"\x7fELF\x00\x01\xff\xfe", ["not a text file"]),
    ("nul.cwl", b"abc\x00\x01", ["not a text file"]),
    ("broken.cwl", b"class: [\n", ["broken.cwl:2:1"]),
    ("classless.cwl", b"cwlVersion: v1.2\ninputs: []\n", ["no 'class'", "CommandLineTool"]),
    ("class.cwl", b"cwlVersion: v1.2\nclass: [1]\n", ["'class'", "CommandLineTool"]),
    ("other.cwl", b"class: Nonsense\ncwlVersion: v1.2\n", ["'Nonsense'", "CommandLineTool"]),
    ("folder", b"", ["a folder"]),
    ("gone.cwl", b"", ["no such file"]),
]
ONLY_CHECKED: list[tuple[str, bytes, list[str]]] = [
    ("unversioned.cwl", b"class: CommandLineTool\ninputs: []\noutputs: []\n", ["cwlVersion"]),
    ("v9.cwl", b"cwlVersion: v9\nclass: CommandLineTool\ninputs: []\noutputs: []\n", ["v1.2"]),
    ("graph.cwl", b"cwlVersion: v1.2\n$graph: []\n", ["graph"]),
]
each = pytest.mark.parametrize(("name", "content", "words"), WRONG, ids=[name for name, *_ in WRONG])


@pytest.fixture(autouse=True)
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wes_bridge.client.WESClient.shares_files", lambda _self: True)
    for name, content, _ in (*WRONG, *ONLY_CHECKED):
        if name == "folder":
            Path(name).mkdir()
        elif name != "gone.cwl":
            Path(name).write_bytes(content)


@pytest.mark.parametrize(("name", "content", "words"), WRONG + ONLY_CHECKED)
def test_check(name: str, content: bytes, words: list[str]) -> None:
    problems = check(name).problems
    assert len(problems) == 1
    for word in (name, *words):
        assert word in problems[0]


@each
@pytest.mark.parametrize("shared", [True, False])
def test_no_bundle_of_it(name: str, content: bytes, words: list[str], shared: bool) -> None:
    with pytest.raises(BundleError) as caught:
        make_bundle(name, {"x": 1}, shared=shared)
    for word in (name, *words):
        assert word in str(caught.value)


@each
def test_run(name: str, content: bytes, words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["run", "--wes", "http://127.0.0.1:9", name])
    assert done.exit_code == 1
    assert "127.0.0.1" not in done.output
    for word in (name, *words):
        assert word in done.output


@each
def test_runner(name: str, content: bytes, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--wes", "http://127.0.0.1:9", name]) == 1
    told = capsys.readouterr().err
    assert "127.0.0.1" not in told
    for word in (name, *words):
        assert word in told


@pytest.fixture
def served() -> Iterator[str]:
    """The folder's files, from a web server: these are not looked at before cwltool does."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(Path.cwd()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", [name for name, *_ in WRONG + ONLY_CHECKED if name != "folder"])
def test_check_of_a_url(name: str, served: str) -> None:
    problems = check(f"{served}/{name}").problems
    assert len(problems) == 1
    assert name in problems[0]


def test_a_job_and_its_workflow_the_wrong_way_round() -> None:
    Path("tool.cwl").write_text("cwlVersion: v1.2\nclass: CommandLineTool\ninputs: []\noutputs: []\n")
    with pytest.raises(BundleError) as caught:
        make_bundle("job.yml", "tool.cwl", shared=True)
    assert "job.yml" in str(caught.value)
    assert "before it" in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "# only comments", ""])
def test_nothing_but_an_import_is_a_document(text: str) -> None:
    Path("tool.yml").write_text("cwlVersion: v1.2\nclass: CommandLineTool\ninputs: []\noutputs: []\n")
    Path("import.cwl").write_text("$import: tool.yml\n")
    Path("job.yml").write_text(text)
    assert make_bundle("import.cwl", "job.yml").params == {}
