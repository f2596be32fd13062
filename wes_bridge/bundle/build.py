"""Putting a submission together: documents, inputs, names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wes_bridge.bundle.arguments import parse_arguments
from wes_bridge.bundle.closure import Closure
from wes_bridge.bundle.document import Document, parse_document, read_document
from wes_bridge.bundle.errors import BundleError
from wes_bridge.bundle.inputs import Input, declared_inputs
from wes_bridge.bundle.inside import Roots
from wes_bridge.bundle.joborder import Packer, read_job
from wes_bridge.bundle.layout import Layout
from wes_bridge.bundle.references import find_local
from wes_bridge.bundle.sendable import name_problem
from wes_bridge.bundle.shape import looks_like_cwl, require_process, version_in
from wes_bridge.model.locations import is_elsewhere

_JOB_KEYS = ("cwl:tool",)
FETCH_TIMEOUT = 10.0
MAX_FETCHED = 64 * 1024**2
"""Bytes of a workflow at a URL that are read to find its inputs."""

Params = Mapping[str, Any] | str | Path | None


@dataclass(frozen=True)
class Attachment:
    """One file to upload.

    Attributes:
        name: relative, with ``/``; not percent-encoded.
        content: the file, or its bytes.
    """

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Bundle:
    """All that a submission needs.

    Attributes:
        workflow_url: relative to the attachments, or absolute.
        params: the input object; locations are relative to the attachments, or absolute.
        attachments: files to upload.
        version: ``cwlVersion`` of the main document, where it is known.
    """

    workflow_url: str
    params: dict[str, Any]
    attachments: list[Attachment] = field(default_factory=list)
    version: str | None = None


def make_bundle(
    workflow: str | Path,
    params: Params = None,
    *,
    arguments: Sequence[str] = (),
    shared: bool = False,
    extra: Iterable[str | Path] = (),
    upload_from: Iterable[str | Path] = (),
) -> Bundle:
    """Pack a CWL workflow and its inputs.

    Args:
        workflow: a local path (``wf.cwl``, ``packed.cwl#main``; a job file with ``cwl:tool`` too) or a URL.
        params: the input object, or the path of its YAML or JSON file (``-``: standard input).
        arguments: inputs from the command line (``--name value``), over those of ``params``.
        shared: the service reads this machine's files: nothing is uploaded, paths become file:// URLs.
        extra: more files to upload, under their base names.
        upload_from: folders (or files) outside the workflow's project that its documents may name files of.

    Raises:
        BundleError: what is missing or malformed, all problems at once.
        OutsideError: the workflow's documents name files outside its project; see :class:`Roots`.
    """
    place = locate(workflow)
    if place.path is not None and params is None:
        params, place = _from_job_file(place)
    if shared and place.path is not None:
        return _shared(place, params, arguments)
    if place.path is None:
        return _remote(place, params, arguments, extra, shared)
    closure = Closure(place.path, Roots(place.path, upload_from))
    main = closure.documents[place.path]
    require_process(main)
    inputs = declared_inputs(
        main.data, place.fragment, lambda target: closure.load(target, place.folder), version=None
    )
    layout = Layout(closure.anchors)
    packed, files = _pack(place, params, arguments, inputs, layout)
    attachments = [Attachment(layout.name(path), closure.content(path, layout)) for path in closure.documents]
    names = {item.name for item in attachments}
    for path in (*closure.files, *files):
        if layout.name(path) not in names:
            names.add(layout.name(path))
            attachments.append(Attachment(layout.name(path), path))
    attachments += _extra(extra, names)
    _check_names(attachments)
    version = main.data.get("cwlVersion") if isinstance(main.data, dict) else None
    url = quote(layout.name(place.path)) + (f"#{place.fragment}" if place.fragment else "")
    return Bundle(url, packed, attachments, str(version) if version else None)


def plain_bundle(workflow: str | Path, params: Params = None, *, extra: Iterable[str | Path] = ()) -> Bundle:
    """Pack a workflow of another language: the file itself and ``extra``; parameters as they are.

    Raises:
        BundleError: a file is not there.
    """
    job, _ = read_job(params, Path.cwd())
    if is_elsewhere(str(workflow)):
        return Bundle(str(workflow), job.data, _extra(extra, set()))
    path = Path(workflow)
    if not path.is_file():
        raise BundleError(f"{workflow}: no such file")
    return Bundle(quote(path.name), job.data, [Attachment(path.name, path), *_extra(extra, {path.name})])


@dataclass(frozen=True)
class Place:
    """Where a workflow is: a local path or a URL, and the fragment.

    Attributes:
        path: absolute; ``None`` for a URL.
        url: as given; empty for a path.
        fragment: of the path, without ``#``; a URL keeps its own.
    """

    path: Path | None
    url: str = ""
    fragment: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the main document; of a URL, the working directory."""
        return self.path.parent if self.path else Path.cwd()


def locate(workflow: str | Path, folder: Path | None = None) -> Place:
    """Find a workflow.

    Raises:
        BundleError: it is a path and nothing is there.
    """
    text = os.fspath(workflow)
    if is_elsewhere(text):
        return Place(None, text, text.partition("#")[2])
    folder = folder or Path.cwd()
    plain = Path(os.path.normpath(folder / text))
    if plain.is_file():
        return Place(plain)
    path, fragment = find_local(text, folder), text.partition("#")[2]
    if path is None or not path.exists():
        hint = "; the workflow comes first, and its inputs after it" if text.startswith("-") else ""
        raise BundleError(f"{text}: no such file{hint}")
    if path.is_dir():
        raise BundleError(f"{text}: is a folder; give the workflow's file")
    return Place(path, fragment=fragment)


def _from_job_file(place: Place) -> tuple[Params, Place]:
    """A job file given in the workflow's place: its ``cwl:tool`` says which workflow it is for."""
    assert place.path is not None
    if place.path.suffix not in (".yml", ".yaml", ".json") and not _mentions(place.path, "cwl:tool"):
        return None, place
    data = read_document(place.path, quick=True).data
    tool = data.get("cwl:tool") if isinstance(data, dict) and "class" not in data else None
    if not isinstance(tool, str):
        return None, place
    return place.path, locate(tool, place.folder)


def _mentions(path: Path, word: str) -> bool:
    with path.open("rb") as stream:
        return word.encode() in stream.read(4096)


def _pack(
    place: Place,
    params: Params,
    arguments: Sequence[str],
    inputs: dict[str, Input] | None,
    layout: Layout | None,
) -> tuple[dict[str, Any], list[Path]]:
    """The input object for the service, and the files to upload for it."""
    problems: list[str] = []
    files: dict[Path, None] = {}
    packed: dict[str, Any] = {}
    job, base = read_job(params, Path.cwd())
    for key in _JOB_KEYS:
        job.data.pop(key, None)
    for document, folder in ((job, base), (_argued(place, arguments, inputs), Path.cwd())):
        packer = Packer(document, folder, layout)
        packed.update(packer.pack(inputs))
        files.update(packer.files)
        problems += packer.problems
    if problems:
        raise BundleError(*problems)
    return packed, list(files)


def _argued(place: Place, arguments: Sequence[str], inputs: dict[str, Input] | None) -> Document:
    if not arguments:
        return Document("command line", "", {})
    if inputs is None:
        raise BundleError(
            f"{place.url or place.path}: its inputs could not be read,"
            " so give them in a job file and not as --name value"
        )
    return Document("command line", "", parse_arguments(inputs, arguments, Path.cwd()))


def _shared(place: Place, params: Params, arguments: Sequence[str]) -> Bundle:
    assert place.path is not None
    inputs, text = None, ""
    if arguments:
        inputs = inputs_of(place)
    try:
        text = place.path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BundleError(f"{place.path}: {error.strerror}") from error
    if not looks_like_cwl(text):
        require_process(read_document(place.path))
    packed, _ = _pack(place, params, arguments, inputs, None)
    url = "file://" + quote(str(place.path)) + (f"#{place.fragment}" if place.fragment else "")
    return Bundle(url, packed, [], version_in(text))


def _remote(
    place: Place, params: Params, arguments: Sequence[str], extra: Iterable[str | Path], shared: bool
) -> Bundle:
    inputs = inputs_of(place) if arguments or params else None
    layout = None if shared else Layout(())
    packed, files = _pack(place, params, arguments, inputs, layout)
    attachments = [Attachment(layout.name(path), path) for path in files] if layout else []
    attachments += _extra(extra, {item.name for item in attachments})
    _check_names(attachments)
    return Bundle(place.url, packed, attachments)


def inputs_of(place: Place) -> dict[str, Input] | None:
    """What the workflow at ``place`` declares; a URL is fetched for it, if that can be done.

    Raises:
        BundleError: a local document cannot be read.
    """
    if place.path is not None:
        data = read_document(place.path).data

        def load(target: str) -> Any:
            path = find_local(target, place.folder)
            return read_document(path).data if path is not None and path.is_file() else None

        return declared_inputs(data, place.fragment, load)
    try:
        return declared_inputs(_fetch(place.url), place.fragment)
    except (OSError, BundleError):  # the fetcher's errors are OSErrors
        return None


def _fetch(url: str) -> Any:
    if not url.startswith(("http://", "https://")):
        return None
    from wes_bridge.fetching.addresses import ANY, PrivateHosts  # noqa: PLC0415 - few need it
    from wes_bridge.fetching.client import Fetcher  # noqa: PLC0415
    from wes_bridge.fetching.guard import Guard  # noqa: PLC0415
    from wes_bridge.fetching.limits import Limits  # noqa: PLC0415

    limits = Limits(FETCH_TIMEOUT, 3 * FETCH_TIMEOUT, max_bytes=MAX_FETCHED)
    fetcher = Fetcher(Guard(PrivateHosts([ANY])), limits, keeps=False)  # it is the user who reads
    return parse_document(fetcher.get(url).decode(errors="replace"), url).data


def _check_names(attachments: list[Attachment]) -> None:
    """Refuse names that cannot be sent, before anything is."""
    problems = [problem for item in attachments if (problem := name_problem(item.name)) is not None]
    if problems:
        raise BundleError(*problems)


def _extra(paths: Iterable[str | Path], names: set[str]) -> list[Attachment]:
    found = []
    for item in paths:
        path = Path(item)
        if not path.is_file():
            raise BundleError(f"{item}: no such file to attach")
        if path.name in names:
            raise BundleError(f"{item}: another file to upload is called {path.name} too")
        names.add(path.name)
        found.append(Attachment(path.name, path))
    return found
