"""Names of files in containers: an engine shows what a file system allows, at exactly the paths asked for."""

# ruff: noqa: F811  # arguments are called as the fixtures that are imported
from __future__ import annotations

import csv
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node.conftest import ROOT, NodeProcess, Request, texts
from tests.node.test_container import boxes, image, sh  # noqa: F401  # fixtures
from tests.node.test_staging import literal
from wes_bridge.node.platforms.container import bind

ODD = [
    "a,b",
    "a:b",
    "a,b:c",
    'a"b',
    '","',
    "a\nb",
    "a\\b",
    "a=b",
    " lead",
    "trail ",
    "ü☃",
    "-v",
    "$HOME",
    "'",
]


def read_as_an_engine_does(words: list[str]) -> tuple[str, str, bool]:
    """Source, target, and whether it may be written, as podman and docker read the option."""
    option, text = words
    if option == "--volume":
        source, target, mode = text.split(":")
        return source, target, mode == "rw"
    [fields] = csv.reader(text.splitlines(keepends=True), strict=True)
    values = dict(field.partition("=")[::2] for field in fields)
    assert values.pop("type") == "bind"
    return values["source"], values["destination"], "readonly" not in values


NAMES = st.text(st.sampled_from(string.ascii_letters + ",:\"\\= \n\r'$ü☃-"), min_size=1, max_size=20)


@given(NAMES, NAMES, st.booleans())
def test_an_option_says_what_it_should_or_there_is_none(source: str, target: str, writable: bool) -> None:
    words = bind(Path(f"/data/{source}"), f"/wb-1/in/{target}", writable)
    if words is None:
        assert "\r\n" in source + "\0" + target
        return
    assert read_as_an_engine_does(words) == (f"/data/{source}", f"/wb-1/in/{target}", writable)


def test_names_that_are_not_utf8_are_not_given_to_an_engine() -> None:
    assert bind(Path("/data/\udcff"), "/wb-1/in/x", writable=False) is None


@pytest.mark.podman
def test_a_container_sees_odd_names(boxes: NodeProcess, tmp_path: Path) -> None:
    """Files and directories, read or changed, below the root and outside of it."""
    request = Request(
        sh("for f in ../in/*/* ../dirs/*/f /other/*; do cat \"$f\"; done; echo more >>../in/w/'a,b:c'")
    )
    for number, name in enumerate(ODD):
        (tmp_path / name).write_text(f"{number};")
        request.data(f"{ROOT}/in/{number}/{name}", (tmp_path / name).as_uri())
    (tmp_path / "d,i:r").mkdir()
    (tmp_path / "d,i:r" / "f").write_text("d;")
    (tmp_path / "written").write_text("w;")
    request.data(f"{ROOT}/dirs/d,i:r", (tmp_path / "d,i:r").as_uri())
    request.data("/other/o,ut:side", (tmp_path / "written").as_uri())
    request.data(f"{ROOT}/in/w/a,b:c", (tmp_path / "written").as_uri(), "READWRITE")
    session = boxes.completed(request.data(f"{ROOT}/lit,e:ral", literal("l")).output(tmp_path / "out"))
    said = boxes.stream(session).replace("\n", "").split(";")
    assert sorted(said[:-1]) == sorted([*map(str, range(len(ODD))), "w", "d", "w"])
    assert (tmp_path / "written").read_text() == "w;more\n"


@pytest.mark.podman
def test_a_name_that_no_engine_takes_is_copied_in(boxes: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("here\n")
    request = Request(sh("cat ../in/*")).data(f"{ROOT}/in/a\r\nb", (tmp_path / "f").as_uri())
    assert boxes.stream(boxes.completed(request)) == "here\n"


@pytest.mark.podman
def test_an_output_directory_with_an_odd_name(boxes: NodeProcess, tmp_path: Path) -> None:
    request = Request(sh("pwd; touch 'a,b:c'", workdir="/da,ta/o:ut")).output(
        tmp_path / "o,u:t", "/da,ta/o:ut"
    )
    assert boxes.stream(boxes.completed(request)) == "/da,ta/o:ut\n"
    assert (tmp_path / "o,u:t/a,b:c").exists()


@pytest.mark.podman
def test_links_in_an_output_directory_outside_the_root_stay_good(boxes: NodeProcess, tmp_path: Path) -> None:
    """As dockerOutputDirectory has it: the container's absolute paths mean nothing on this machine."""
    (tmp_path / "f").write_text("input\n")
    script = (
        "mkdir sub; echo x >r,1:2; ln -s /data/out/r,1:2 absolute; ln -s ../r,1:2 sub/relative;"
        f" ln -s /data/out/sub/../r,1:2 sub/up; ln -s {ROOT}/in/f input; ln -s /staged/g:1 outside"
    )
    request = Request(sh(script, workdir="/data/out")).data(f"{ROOT}/in/f", (tmp_path / "f").as_uri())
    request.data("/staged/g:1", (tmp_path / "f").as_uri())
    boxes.completed(request.output(tmp_path / "out", "/data/out"))
    out = tmp_path / "out"
    for name in ("r,1:2", "absolute", "sub/relative", "sub/up"):
        assert (out / name).read_text() == "x\n", name
    assert (out / "input").read_text() == (out / "outside").read_text() == "input\n"


@pytest.mark.podman
def test_a_link_to_the_images_own_file_is_not_one_of_ours(boxes: NodeProcess, tmp_path: Path) -> None:
    """Absolute, relative, by way of another link: what it led to is gone with the container."""
    (tmp_path / "in").mkdir()
    up = "../" * 40
    script = (
        f"ln -s /etc/passwd absolute; ln -s {up}etc/passwd relative; ln -s /etc folder; mkdir sub;"
        f" ln -s folder/passwd chain; ln -s {ROOT}/in/d d; ln -s d/{up}etc/passwd over; echo x >own;"
        f" ln -s /etc/passwd sub/deep; ln -s ../own sub/own; ln -s /etc/passwd {ROOT}/t; ln -s {ROOT}/t twice"
    )
    request = Request(sh(script)).data(f"{ROOT}/in/d", (tmp_path / "in").as_uri()).output(tmp_path / "out")
    boxes.completed(request)
    out = tmp_path / "out"
    for name in ("absolute", "relative", "folder", "chain", "over", "sub/deep", "twice"):
        assert not (out / name).exists(), name
        assert "file-of-the-container-image" in str((out / name).readlink()), name
    assert (out / "sub/own").read_text() == "x\n"
    assert (out / "d").resolve() == tmp_path / "in"


@pytest.mark.podman
def test_a_link_in_place_of_the_output_directory_is_not_followed(boxes: NodeProcess, tmp_path: Path) -> None:
    request = Request(sh(f"cd /; rm -rf {ROOT}/out; ln -s /etc {ROOT}/out")).output(tmp_path / "out")
    failed = boxes.run(request)
    assert failed["phase"] == "FAILED"
    assert "the command put a link in its place" in texts(failed)
    assert not (tmp_path / "out").exists()
