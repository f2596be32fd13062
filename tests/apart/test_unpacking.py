"""What a step sends, as somebody makes it up who should not: nothing leaves the folder."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.data.bundling import bundle
from wes_bridge.data.unpacking import UnpackError, pack_entries, tar_entries, unpack

Member = tuple[str, bytes, bytes | str]
FILE, FOLDER, LINK, SAME, PIPE = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
)


def tar(*members: Member, form: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(content, str):
                info.linkname = content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return made.getvalue()


def from_tar(content: bytes, folder: Path) -> list[str]:
    source = io.BytesIO(content)
    return unpack(tar_entries(source), source, folder)


def from_pack(content: bytes, folder: Path) -> list[str]:
    source = io.BytesIO(content)
    return unpack(pack_entries(source), source, folder)


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A folder, beside a canary that nothing may change."""
    (tmp_path / "canary").write_text("as it was\n")
    return tmp_path / "out"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_folders_links_and_long_names(ground: Path, form: int) -> None:
    deep = "/".join(["folder " + "x" * 40] * 3)
    content = tar(
        ("./", FOLDER, b""),
        ("./d", FOLDER, b""),
        ("./d/a", FILE, b"one"),
        ("./d/b", SAME, "./d/a"),
        (f"./{deep}/file", FILE, b"two"),
        ("./l", LINK, "d/a"),
        ("./pipe", PIPE, b""),
        form=form,
    )
    assert from_tar(content, ground) == []
    assert (ground / "l").read_text() == (ground / "d" / "b").read_text() == "one"
    assert (ground / deep / "file").read_text() == "two"
    assert stat.S_ISFIFO((ground / "pipe").stat().st_mode)


HARM = {
    "leads up": tar(("../canary", FILE, b"x")),
    "leads up inside": tar(("a/../../canary", FILE, b"x")),
    "is absolute": tar(("//canary", FILE, b"x")),
    "a file twice": tar(("a", FILE, b"x"), ("a", FILE, b"y")),
    "a file as a folder": tar(("a", FILE, b"x"), ("a/b", FILE, b"y")),
    "another name of what leads up": tar(("a", SAME, "../canary")),
    "another name of a folder": tar(("d", FOLDER, b""), ("a", SAME, "d")),
    "another name of nothing": tar(("a", SAME, "b")),
    "no tar at all": b"hello" * 1000,
    "cut off in a file": tar(("a", FILE, b"x" * 2000))[:1000],
    "cut off before its end": tar(("a", FILE, b"x" * 2000))[: 512 * 5],
    "empty": b"",
    "a name of a megabyte": tar(("x" * (1 << 20), FILE, b"x")),
    "what PAX says in a megabyte": tar(("ü" * (1 << 20), FILE, b"x"), form=tarfile.PAX_FORMAT),
    "of no kind": tar(("a", b"Z", b"x")),
}


@pytest.mark.parametrize("content", HARM.values(), ids=HARM.keys())
def test_harm_is_refused(ground: Path, content: bytes) -> None:
    with pytest.raises(UnpackError):
        from_tar(content, ground)
    assert (ground.parent / "canary").read_text() == "as it was\n"
    assert sorted(path.name for path in ground.parent.iterdir()) == ["canary", "out"]


@pytest.mark.parametrize("target", ["../canary", "/etc/passwd", "a/../../canary", "..", "d/../..", ""])
def test_links_that_lead_out_are_left_out_and_told(ground: Path, target: str) -> None:
    content = tar(("d", FOLDER, b""), ("link", LINK, target), ("link2/x", FILE, b"fine"))
    (note,) = from_tar(content, ground)
    assert note == "link is a link out of the output and was left out"
    assert sorted(path.name for path in ground.iterdir()) == ["d", "link2"]


def test_nothing_is_written_through_a_link(ground: Path) -> None:
    """Links come last, whatever their order: what is below one is a folder by then."""
    for second in (("link/x", FILE, b"x"), ("link/x", LINK, "y"), ("link", FOLDER, b"")):
        with pytest.raises(UnpackError, match="link"):
            from_tar(tar(("d", FOLDER, b""), ("link", LINK, "d"), second), ground)
        assert not list((ground / "d").iterdir())
        for path in sorted(ground.rglob("*"), reverse=True):
            path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
        ground.rmdir()


def test_modes_do_no_harm(ground: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, mode in (("d", FOLDER, 0o1000), ("f", FILE, 0o6755), ("g", FILE, 0)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            archive.addfile(info)
    from_tar(made.getvalue(), ground)
    modes = {name: stat.S_IMODE((ground / name).stat().st_mode) for name in "dfg"}
    assert modes == {"d": 0o700, "f": 0o755, "g": 0o600}


def test_a_pack(ground: Path) -> None:
    content = b"D 1\ndF x 3 3\nd/aoneL 1 3\nld/aF - 0 4\ncaf\xe9O other 1\nsE\n"
    assert from_pack(content, ground) == ["s is a socket or a device and was left out"]
    assert (ground / "l").read_text() == "one"
    assert (ground / "d/a").stat().st_mode & 0o100
    assert (ground / "caf\udce9").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"E", b"F x 3 1\na", b"F x 3 1\naon", b"F x -3 1\naE\n", b"F x 3 99999999999999999999\n",
        b"D 0\nE\n", b"D 3\n../E\n", b"D 9\n../canaryE\n", b"hello\n", b"F x 1 1\naxF x 1 1\nax", b"x" * 1000,
    ],
)  # fmt: skip
def test_a_pack_that_is_made_up(ground: Path, content: bytes) -> None:
    with pytest.raises(UnpackError):
        from_pack(content, ground)
    assert (ground.parent / "canary").read_text() == "as it was\n"


@pytest.mark.parametrize("read", [from_tar, from_pack])
@given(content=st.binary(max_size=2000))
def test_any_bytes_end_in_a_reason_or_a_folder(
    tmp_path_factory: pytest.TempPathFactory, read: Callable[[bytes, Path], list[str]], content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        read(content, folder / "out")
    except UnpackError as error:
        assert str(error)
    assert [path.name for path in folder.iterdir()] == ["out"]


def test_a_bundle_is_read_as_it_was_made(tmp_path: Path, ground: Path) -> None:
    folder = tmp_path / "given"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "caf\udce9\n#%").write_text("1")
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "in").symlink_to("deep")
    (folder / "out").symlink_to("../canary")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(os.fspath(folder / "s"))
        content = b"".join(bundle([("0", str(folder)), ("1", str(tmp_path / "canary"))]))
    assert from_tar(content, ground) == []
    assert (ground / "1").read_text() == "as it was\n"
    assert sorted(path.name for path in (ground / "0").iterdir()) == ["deep", "in", "run"]
    assert (ground / "0" / "in" / "caf\udce9\n#%").read_text() == "1"
    assert os.access(ground / "0" / "run", os.X_OK)
