"""What a node keeps: how it gets there, also through crashes, and how long it stays."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.clock import Clock
from wes_bridge.data.beneath import opened
from wes_bridge.model.manifest import EntryKind, ManifestEntry, read_manifest
from wes_bridge.node.kept.index import Index
from wes_bridge.node.kept.settling import bring_in
from wes_bridge.node.kept.store import FILES, KeptNote, KeptStore, NoRoomError, Wanted
from wes_bridge.node.staging.schemes import UnusableError

SESSION = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> KeptStore:
    return opened_store(tmp_path, clock)


def opened_store(tmp_path: Path, clock: Clock, most: int | None = None) -> KeptStore:
    store = KeptStore(tmp_path / "kept", most, clock)
    store.load()
    return store


def wanted(output: str = "out", lease: float = 60, **more: object) -> Wanted:
    return Wanted(SESSION, output, "local", lease, **more)  # type: ignore[arg-type]


def keep(store: KeptStore, source: Path, asked: Wanted | None = None) -> KeptNote:
    with opened(os.open(source.parent, os.O_RDONLY | os.O_DIRECTORY)) as folder:
        return store.keep(asked or wanted(), folder, source.name)


def manifest(store: KeptStore, note: KeptNote) -> dict[str, ManifestEntry]:
    content = (store.folder(note) / "manifest.ndjson").read_bytes()
    return {entry.path: entry for entry in read_manifest([content])}


def sha1(content: bytes) -> str:
    return f"sha1${hashlib.sha1(content).hexdigest()}"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    out = tmp_path / "session" / "out"
    (out / "d" / "e").mkdir(parents=True)
    (out / "d.txt").write_bytes(b"dot")
    (out / "d" / "a").write_bytes(b"content")
    (out / "d" / "a").chmod(0o755)
    (out / "empty").touch()
    return out


def test_an_output_is_kept_with_its_manifest(store: KeptStore, output: Path) -> None:
    note = keep(store, output)
    assert not output.exists()
    assert list(manifest(store, note).values()) == [
        ManifestEntry("d", EntryKind.DIRECTORY, mode=0o755),
        ManifestEntry("d/a", EntryKind.FILE, size=7, mode=0o755, checksum=sha1(b"content")),
        ManifestEntry("d/e", EntryKind.DIRECTORY, mode=0o755),
        ManifestEntry("d.txt", EntryKind.FILE, size=3, mode=0o644, checksum=sha1(b"dot")),
        ManifestEntry("empty", EntryKind.FILE, size=0, mode=0o644, checksum=sha1(b"")),
    ]
    assert (note.entries, note.files, note.size, note.file) == (5, 3, 10, None)
    assert (store.folder(note) / FILES / "d" / "a").read_bytes() == b"content"
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.folder(note).stat().st_mode) == 0o700


def test_one_file_is_an_output_too(store: KeptStore, tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "a.txt").write_bytes(b"a")
    note = keep(store, tmp_path / "session" / "a.txt")
    assert (note.file, note.files, note.entries) == ("a.txt", 1, 1)
    assert list(manifest(store, note)) == ["a.txt"]


def test_names_that_are_no_text_are_kept(store: KeptStore, output: Path) -> None:
    strange = {b"\xff\xfe", b"new\nline", b"#%:?", b" ", "ä".encode()}
    for name in strange:
        (output / os.fsdecode(name)).write_bytes(name)
    note = keep(store, output)
    found = manifest(store, note)
    for name in strange:
        assert found[os.fsdecode(name)].checksum == sha1(name)


def test_other_checksums_are_of_the_same_read(store: KeptStore, output: Path) -> None:
    note = keep(store, output, wanted(algorithms=("md5", "adler32", "sha256", "sha512")))
    assert manifest(store, note)["d/a"].checksums == {
        "md5": hashlib.md5(b"content").hexdigest(),
        "adler32": f"{zlib.adler32(b'content'):08x}",
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "sha512": hashlib.sha512(b"content").hexdigest(),
    }


def test_pipes_sockets_and_devices_are_named_and_not_read(store: KeptStore, output: Path) -> None:
    os.mkfifo(output / "pipe")
    entry = manifest(store, keep(store, output))["pipe"]
    assert entry.kind is EntryKind.OTHER
    assert "a named pipe (FIFO)" in (entry.note or "")


def test_links_inside_stay_and_links_out_are_told(store: KeptStore, output: Path) -> None:
    (output / "in").symlink_to("d/a")
    (output / "d" / "up").symlink_to("../d.txt")
    (output / "out").symlink_to("/etc/passwd")
    (output / "d" / "far").symlink_to("../../x")
    found = manifest(store, keep(store, output))
    for path in ("in", "d/up"):
        assert (found[path].kind, found[path].note) == (EntryKind.LINK, None)
    for path in ("out", "d/far"):
        assert found[path].kind is EntryKind.LINK
        assert "leads out of the output" in (found[path].note or "")


def test_a_link_to_an_input_becomes_a_copy(store: KeptStore, output: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "big").write_bytes(b"an input")
    (output / "link").symlink_to(tmp_path / "input" / "big")
    (output / "whole").symlink_to(tmp_path / "input")
    (output / "foreign").symlink_to(tmp_path / "elsewhere")
    flags = os.O_RDONLY | os.O_DIRECTORY
    with opened(os.open(output, flags)) as folder, opened(os.open(tmp_path, flags)) as scratch:
        bring_in(folder, [tmp_path / "input"], scratch)
    found = manifest(store, keep(store, output))
    for path in ("link", "whole/big"):
        assert found[path].checksum == sha1(b"an input")
    assert found["foreign"].kind is EntryKind.LINK


def test_hard_links_among_outputs_count_once(store: KeptStore, output: Path) -> None:
    os.link(output / "d" / "a", output / "again")
    note = keep(store, output)
    assert (note.files, note.size) == (4, 10)
    found = manifest(store, note)
    assert found["again"].checksum == found["d/a"].checksum == sha1(b"content")


def test_a_file_with_a_name_elsewhere_is_copied(store: KeptStore, output: Path, tmp_path: Path) -> None:
    """Who holds the other name could change what was listed."""
    os.link(output / "d" / "a", tmp_path / "mine")
    note = keep(store, output)
    (tmp_path / "mine").write_bytes(b"changed")
    assert (store.folder(note) / FILES / "d" / "a").read_bytes() == b"content"
    assert manifest(store, note)["d/a"].mode == 0o755


def test_what_its_owner_may_not_read_is_kept_all_the_same(store: KeptStore, output: Path) -> None:
    (output / "d" / "a").chmod(0)
    (output / "d" / "e").chmod(0)
    note = keep(store, output)
    assert manifest(store, note)["d/a"].checksum == sha1(b"content")
    store.release(SESSION, "out")
    assert not (store.root / SESSION).exists()


def test_what_is_deeper_than_a_manifest_takes_is_refused(store: KeptStore, output: Path) -> None:
    deep = output
    for _ in range(201):
        deep /= "d"
        deep.mkdir(exist_ok=True)
    with pytest.raises(UnusableError, match="deeper or longer"):
        keep(store, output)


def test_a_file_that_changes_while_it_is_listed_is_noticed(
    store: KeptStore, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wes_bridge.node.kept import listing  # noqa: PLC0415

    real = listing.hash_file

    def changed_meanwhile(file: int, *more: Any) -> object:
        found = real(file, *more)
        os.utime(file)  # it changes ctime, as a write does
        return found

    monkeypatch.setattr(listing, "hash_file", changed_meanwhile)
    with pytest.raises(UnusableError, match="was changed after the command had ended"):
        keep(store, output)


def test_more_than_may_be_kept_is_refused_and_leaves_nothing(
    tmp_path: Path, clock: Clock, output: Path
) -> None:
    store = opened_store(tmp_path, clock, most=15)
    keep(store, output)
    (tmp_path / "session" / "two").mkdir()
    (tmp_path / "session" / "two" / "a").write_bytes(b"123456")
    with pytest.raises(NoRoomError, match="keeps 10 of at most 15"):
        keep(store, tmp_path / "session" / "two", wanted("two"))
    assert [path.name for path in (store.root / SESSION).iterdir()] == ["out"]
    assert store.size == 10


# ---- leases ----------------------------------------------------------------------------------------


def test_a_lease_runs_out(store: KeptStore, output: Path, clock: Clock) -> None:
    note = keep(store, output)
    clock.now += 59
    assert store.find(SESSION, "out") == note
    assert store.sweep() == 0
    clock.now += 1
    assert store.find(SESSION, "out") is None
    assert store.sweep() == 1
    assert store.totals.outputs == store.size == 0
    assert not (store.root / SESSION).exists()


def test_a_lease_is_renewed_also_over_a_restart(
    store: KeptStore, output: Path, clock: Clock, tmp_path: Path
) -> None:
    store.renew(keep(store, output), 600)
    again = opened_store(tmp_path, clock)
    clock.now += 599
    assert again.sweep() == 0
    assert again.size == 10
    clock.now += 1
    assert again.sweep() == 1


def test_what_is_in_use_stays_until_it_is_not(store: KeptStore, output: Path, clock: Clock) -> None:
    note = keep(store, output)
    assert not store.use(SESSION, "out", "somebody else", "user")
    assert store.use(SESSION, "out", "local", "user")
    clock.now += 1000
    assert store.sweep() == 0
    store.release(SESSION, "out")
    assert store.find(SESSION, "out") is None
    assert (store.folder(note) / FILES / "d" / "a").exists()
    store.let_go("user")
    assert store.sweep() == 1
    assert not store.folder(note).exists()


def test_what_was_released_while_in_use_goes_after_a_restart(
    store: KeptStore, output: Path, clock: Clock, tmp_path: Path
) -> None:
    keep(store, output)
    store.use(SESSION, "out", "local", "user")
    store.release(SESSION, "out")
    assert opened_store(tmp_path, clock).sweep() == 1


def test_what_nobody_can_read_any_more_is_removed(
    store: KeptStore, output: Path, clock: Clock, tmp_path: Path
) -> None:
    note = keep(store, output)
    (store.folder(note) / "note.json").write_text("nonsense")
    again = opened_store(tmp_path, clock)
    assert again.totals.outputs == 0
    assert not store.folder(note).exists()


# ---- crashes ---------------------------------------------------------------------------------------


def _die_at(number: int) -> None:
    """Have this process killed at the nth thing that it does to files."""
    count = 0

    def hook(event: str, _arguments: object) -> None:
        nonlocal count
        if event.startswith(("os.", "open", "shutil.")) and event not in ("os.putenv", "os.fork"):
            count += 1
            if count == number:
                os._exit(9)

    sys.addaudithook(hook)


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_node_that_is_killed_at_any_moment_keeps_the_output_all_the_same(
    tmp_path: Path, clock: Clock, *, is_folder: bool
) -> None:
    """Each kill is followed by what a restarted node does: load, and release again."""
    for number in range(1, 500):
        here = tmp_path / str(number)
        source = here / "session" / ("out" if is_folder else "a")
        source.parent.mkdir(parents=True)
        if is_folder:
            source.mkdir()
            (source / "a").write_bytes(b"content")
            os.link(source / "a", here / "elsewhere")
        else:
            source.write_bytes(b"content")
        child = os.fork()
        if child == 0:
            try:
                store = opened_store(here, clock)
                _die_at(number)
                keep(store, source)
            finally:
                os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        store = opened_store(here, clock)
        store.tidy([SESSION])
        with opened(os.open(source.parent, os.O_RDONLY | os.O_DIRECTORY)) as folder:
            note = store.keep(wanted(), folder if source.exists() else None, source.name)
        assert manifest(store, note)["a"].checksum == sha1(b"content")
        assert (store.folder(note) / FILES / "a").read_bytes() == b"content"
        assert note.file == (None if is_folder else "a")
        store.tidy([])
        assert [path.name for path in (store.root / SESSION).iterdir()] == ["out"]
        assert store.size == 7
        if code == 0:
            assert number > 10
            return
    raise AssertionError("it never came to its end")


def test_a_beginning_of_a_session_that_is_over_is_removed(
    store: KeptStore, output: Path, clock: Clock, tmp_path: Path
) -> None:
    (store.root / SESSION / ".new-out" / FILES).mkdir(parents=True)
    again = opened_store(tmp_path, clock)
    again.tidy([])
    assert not (store.root / SESSION).exists()


# ---- looking up ------------------------------------------------------------------------------------


def test_paths_are_found_among_many_lines(store: KeptStore, tmp_path: Path) -> None:
    out = tmp_path / "session" / "out"
    for folder in range(20):
        (out / f"d{folder}").mkdir(parents=True)
        for number in range(20):
            (out / f"d{folder}" / f"{'n' * (number * 10)}{number}").write_text(f"{folder} {number}")
    (out / "d1.txt").touch()
    note = keep(store, out)
    with opened(store.open_manifest(note)) as file:
        index = Index(file)
        for path, entry in manifest(store, note).items():
            assert index.find(path) == entry
        for missing in ("", "a", "d1/", "d1/x", "z", "d1/0/x"):
            assert index.find(missing) is None
        below = list(read_manifest([b"\n".join(index.lines(*index.below(""))) + b"\n"]))
        assert len(below) == note.entries == 421
        lines = list(index.lines(*index.below("d1")))
        assert len(lines) == 20
        assert all(b'"path":"d1/' in line for line in lines)
        assert list(index.lines(*index.below("nothing"))) == []
