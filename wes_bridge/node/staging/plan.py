"""What a session's file system will look like, before anything of it is made.

Volumes may lie inside one another. A directory that is only linked must not be written into when something
is placed inside it: it becomes a real directory with its entries linked. Platforms realise a tree as
symbolic links (process) or as mounts (containers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

from wes_bridge.data.beneath import real_path
from wes_bridge.model.execution_broker import Data, Session, Volume
from wes_bridge.model.expected import UNSAID, Expected
from wes_bridge.node.errors import StagingError
from wes_bridge.node.layout import RootMap, clean_path, clean_relative
from wes_bridge.node.staging.schemes import Schemes


class Kind(Enum):
    """How an entry of the tree comes to be."""

    LINK = "link"
    COPY = "copy"
    SAME = "same"
    FETCH = "fetch"
    DIRECTORY = "directory"
    OUTPUT = "output"


@dataclass(frozen=True)
class Entry:
    """One thing in the tree.

    Attributes:
        path: session path.
        kind: how it is made: SAME is a link that leads where another does, and is followed by nobody here.
        source: what a LINK or COPY is of, on this machine, links followed; for SAME, the other link.
        location: URL of what a FETCH brings.
        writable: whether the command may change it (for a LINK: the source itself).
        within: see :attr:`top`.
        directory: of a FETCH: whether it brings a folder.
        expected: of a FETCH: how the file must be.
    """

    path: str
    kind: Kind
    source: Path = Path()
    location: str = ""
    writable: bool = False
    within: Path | None = None
    directory: bool = False
    expected: Expected = UNSAID

    @property
    def top(self) -> Path:
        """The directory that was given, of which this is a part."""
        return self.within or self.source


@dataclass
class Tree:
    """A session's file system.

    Attributes:
        paths: where session paths are on this machine.
        entries: by session path; parents come before what is in them once :meth:`ordered`.
        outputs: session path and resource of each thing to transfer when the command has ended.
        workdir: session path where the command starts.
    """

    paths: RootMap
    workdir: str
    entries: dict[str, Entry] = field(default_factory=dict)
    outputs: list[tuple[str, Data]] = field(default_factory=list)
    _parents: set[str] = field(default_factory=set)

    def ordered(self) -> list[Entry]:
        """The entries, each after the directories it is in."""
        return sorted(self.entries.values(), key=lambda entry: entry.path.count("/"))

    def resolve(self, path: str) -> Path:
        """Where the thing at session path ``path`` really is, through links of the tree."""
        for parent in (path, *_ancestors(path)):
            entry = self.entries.get(parent)
            if entry is not None and entry.kind is Kind.LINK:
                return entry.source / path[len(parent) + 1 :]
        return self.paths.host(path)

    def given(self, path: str) -> Path | None:
        """What was given of which the thing at ``path`` is a part; None where it is the session's own."""
        for parent in (path, *_ancestors(path)):
            entry = self.entries.get(parent)
            if entry is not None and entry.kind is Kind.LINK:
                return entry.top
        return None

    def has(self, path: str) -> bool:
        """Whether ``path`` is of the tree, or lies in a directory of it."""
        return path in self.entries or self.is_inside(path)

    def is_inside(self, path: str) -> bool:
        """Whether ``path`` lies in a directory of the tree."""
        return any(parent in self.entries for parent in _ancestors(path))

    def add(self, entry: Entry) -> None:
        """Place an entry, over whatever is there; two directories merge."""
        self.open_parents(entry.path)
        old = self.entries.get(entry.path)
        if old is not None and _is_directory(old) and _is_directory(entry):
            self._merge(old, entry)
            return
        if entry.path not in self._parents:
            self._put(entry)
        elif entry.kind is Kind.LINK and _is_directory(entry):
            self._explode(entry)
        elif _is_directory(entry):
            self._put(entry)
        else:
            raise StagingError(entry.location, entry.path, "other volumes are inside it, but it is a file")

    def _put(self, entry: Entry) -> None:
        self.entries[entry.path] = entry
        for parent in _ancestors(entry.path):
            if parent in self._parents:
                break
            self._parents.add(parent)

    def open_parents(self, path: str) -> None:
        """Make every directory above ``path`` one that can be written into without harm to its source."""
        for parent in reversed(_ancestors(path)):
            entry = self.entries.get(parent)
            if entry is not None and entry.kind is Kind.LINK:
                self._explode(entry)
            elif entry is not None and entry.kind is Kind.FETCH and entry.directory:
                reason = f"it is to be fetched, and {path} lies in it; mount the two side by side"
                raise StagingError(entry.location, entry.path, reason)

    def reserve(self, path: str) -> None:
        """Keep ``path`` for a file the node or the command writes: nothing linked may be in its way."""
        self.open_parents(path)
        self.entries.pop(path, None)

    def _merge(self, old: Entry, new: Entry) -> None:
        """Two directories at one path: both their contents, the new one's where they differ."""
        if old.kind is Kind.LINK:
            self._explode(old)
        if new.kind is Kind.LINK:
            self._explode(new)
        elif new.kind is not Kind.DIRECTORY:
            self._put(new)

    def _explode(self, entry: Entry) -> None:
        """Make a linked directory a real one, its contents linked."""
        old = self.entries.get(entry.path)
        if old is None or old.kind is Kind.LINK:
            self._put(Entry(entry.path, Kind.DIRECTORY, writable=entry.writable))
        try:
            children = list(entry.source.iterdir())
        except OSError as error:
            raise StagingError(str(entry.source), entry.path, str(error)) from error
        for source in children:
            path = f"{entry.path}/{source.name}"
            child = _child(entry, path, source)
            there = self.entries.get(path)
            if there is not None and _is_directory(child) and _is_directory(there):
                self._merge(there, child)
            elif path in self._parents:
                self._explode(child)
            else:
                self._put(child)


def _child(entry: Entry, path: str, source: Path) -> Entry:
    """An entry of a linked directory. A link that leads out of the directory stays a link: it is not for us
    to follow, and nothing of where it leads is brought to the session."""
    if source.is_symlink():
        real = Path(real_path(source))
        if not real.is_relative_to(entry.top) or not real.exists():
            return Entry(path, Kind.SAME, source=source)
        source = real
    return Entry(path, Kind.LINK, source=source, writable=entry.writable, within=entry.top)


def _ancestors(path: str) -> list[str]:
    """The directories above a clean path, nearest first, without ``/`` itself."""
    found = []
    while (end := path.rfind("/")) > 0:
        path = path[:end]
        found.append(path)
    return found


def _is_directory(entry: Entry) -> bool:
    if entry.kind in (Kind.LINK, Kind.COPY):
        return entry.source.is_dir()
    return entry.kind in (Kind.DIRECTORY, Kind.OUTPUT)


Kept = Callable[[str], Path | None]
"""Where an output is that this node keeps; None where a URL is of none that may be used. It raises OSError or
ValueError where there is nothing."""


def make_tree(session: Session, fs: Path, schemes: Schemes, kept: Kept | None = None) -> Tree:
    """Plan a session's file system from its volumes and data resources.

    Args:
        session: the accepted session.
        fs: the directory that stands for the session's root.
        schemes: where data can come from.
        kept: finds the outputs that this node keeps.

    Raises:
        StagingError: a file that should be on this machine is not.
        BadRequestError: a path that cannot be used (refused earlier, when the offer was made).
    """
    executable = session.executable
    if executable is None:
        raise ValueError("a session has an executable")
    root = clean_path(executable.root, "executable.root") if executable.root else None
    if root == "/":
        root = None
    workdir = workdir_of(executable.workdir, root)
    tree = Tree(RootMap(root, fs), workdir)
    volumes = list(session.compute.volumes or []) if session.compute else []
    data = resources(session.data or [])
    placed = sorted(
        ((volume_path(volume), volume) for volume in volumes), key=lambda item: item[0].count("/")
    )
    tree.add(Entry(workdir, Kind.DIRECTORY, writable=True))
    for path, volume in placed:
        _place(tree, path, volume, data.get(volume.resource or ""), schemes, kept)
    streams = executable.streams
    for stream in (streams.stdout, streams.stderr) if streams else ():
        if stream is not None and stream.path:
            tree.reserve(f"{workdir}/{clean_relative(stream.path, 'stream path')}")
    return tree


def workdir_of(workdir: str | None, root: str | None) -> str:
    """Where the command starts: as asked, else ``work`` below the root."""
    if workdir:
        return clean_path(workdir, "executable.workdir")
    return f"{root or ''}/work"


def expected_of(data: Data) -> Expected:
    """What a request says of a file before it is fetched."""
    checksum = data.checksum
    pair = (checksum.type.lower(), checksum.value.lower()) if checksum is not None else None
    return Expected(data.size, pair)


def volume_path(volume: Volume) -> str:
    """The session path of a volume: as asked, else the reference broker's ``/volumes/<name>``."""
    if volume.path:
        return clean_path(volume.path, "volume path")
    meta = volume.meta
    name = (meta.name or (str(meta.uuid) if meta.uuid else None)) if meta else None
    return clean_path(f"/volumes/{name or volume.resource or 'volume'}", "volume path")


def resources(data: list[Data]) -> dict[str, Data]:
    """Data resources by what volumes may call them: their name and their UUID."""
    found: dict[str, Data] = {}
    for item in data:
        if item.meta is not None and item.meta.uuid is not None:
            found[str(item.meta.uuid)] = item
        if item.meta is not None and item.meta.name:
            found[item.meta.name] = item
    return found


def _place(  # noqa: PLR0917
    tree: Tree, path: str, volume: Volume, data: Data | None, schemes: Schemes, kept: Kept | None
) -> None:
    writable = volume.mode == "READWRITE"
    if data is None:  # scratch storage
        tree.add(Entry(path, Kind.DIRECTORY, writable=True))
        return
    if data.access == "WRITE":
        tree.outputs.append((path, data))
        if data.directory is False:
            tree.reserve(path)
            tree.add(Entry(str(PurePosixPath(path).parent), Kind.DIRECTORY, writable=True))
        else:
            tree.add(Entry(path, Kind.OUTPUT, writable=True))
        return
    location = data.location or ""
    if data.directory and location in ("", "data:", "data:,"):
        tree.add(Entry(path, Kind.DIRECTORY, writable=writable))
        return
    try:
        here = kept(location) if kept is not None else None
        source = schemes.local(location) if here is None else None
        if here is None and source is None:
            tree.add(
                Entry(
                    path,
                    Kind.FETCH,
                    location=location,
                    writable=writable,
                    directory=bool(data.directory),
                    expected=expected_of(data),
                )
            )
            return
        source = here or schemes.allowed.source(source or Path())
    except (OSError, RuntimeError, ValueError) as error:
        reason = "no such file or directory" if isinstance(error, FileNotFoundError) else str(error)
        raise StagingError(location, path, reason) from error
    kind = Kind.COPY if volume.private_copy and writable else Kind.LINK
    writable = writable and (here is None or kind is Kind.COPY)
    tree.add(Entry(path, kind, source=source, location=location, writable=writable))
