"""Packing a workflow for a service, and asking the user about files that are not of its project."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from wes_bridge.bundle import Bundle, OutsideError, make_bundle


def upload_from_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--upload-from`` option of commands that upload workflows."""
    return click.option(
        "--upload-from",
        multiple=True,
        type=click.Path(exists=True, path_type=Path),
        metavar="DIR",
        help="Files that the workflow itself names may be uploaded from here, too; repeatable. Else only"
        " those of its project are: its folder, or the git work tree that this is in.",
    )(function)


def packer(
    workflow: str, job: str | None, words: Sequence[str], upload_from: Iterable[Path]
) -> Callable[[bool], Bundle]:
    """What packs a workflow, given whether the service reads this machine's files itself.

    On a terminal the user is asked before files outside the workflow's project are uploaded.
    """
    allowed = list(upload_from)

    def pack(shared: bool) -> Bundle:
        try:
            return make_bundle(workflow, job, arguments=words, shared=shared, upload_from=allowed)
        except OutsideError as error:
            if not sys.stdin.isatty() or not sys.stderr.isatty():
                raise
            for problem in error.problems[:-1]:
                click.echo(problem, err=True)
            if not click.confirm("Upload them all the same?", default=False, err=True):
                raise
            allowed.extend(error.paths)
            return pack(shared)

    return pack
