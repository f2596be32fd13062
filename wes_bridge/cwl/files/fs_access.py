"""cwltool's way to read files: what a step left behind, and its inputs, behind the run's policy.

Everything is a ``file://`` URL of the workspace or of an attachment; what is at an http(s) URL is fetched
when its contents are asked for. It must not know where a step finds its files.
"""

from __future__ import annotations

import glob
import io
import os
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote, urlsplit

from cwltool.errors import WorkflowException
from cwltool.stdfsaccess import StdFsAccess, abspath
from schema_salad.exceptions import ValidationException
from schema_salad.ref_resolver import file_uri

from wes_bridge.cwl.files.later import LaterFile
from wes_bridge.cwl.files.output_object import MOST_BYTES, OUTPUT_OBJECT, read_output_object
from wes_bridge.cwl.files.policy import Policy, fetch_http
from wes_bridge.data.beneath import real_path
from wes_bridge.data.special import readable, what_is_wrong
from wes_bridge.data.stand_ins import is_stand_in
from wes_bridge.small_files import NotSmallError, open_regular


class RunFsAccess(StdFsAccess):
    """cwltool's file access for one job: local files behind the run's :class:`Policy`.

    cwltool asks up to five times for a file; what was allowed once is not looked at again.
    """

    policy: Policy
    most_output: int = MOST_BYTES

    def __init__(self, basedir: str) -> None:
        super().__init__(basedir)
        self._permitted: dict[str, Path] = {}

    def _local(self, name: str) -> Path:
        path = self._permitted.get(name)
        if path is None:
            path = Path(abspath(name, self.basedir))
            self.policy.files.check(path)
            self._permitted[name] = path
        return path

    def glob(self, pattern: str) -> list[str]:
        """``file://`` URLs matching ``pattern``, in no particular order.

        Raises:
            ValidationException: it leads out of what may be read.
            WorkflowException: a name is no text.
        """
        found = glob.glob(abspath(pattern, self.basedir))  # noqa: PTH207  # hidden-file rules of glob.glob are CWL's
        files = self.policy.files
        if not all(files.allows(real_path(folder)) for folder in {os.path.dirname(name) for name in found}):  # noqa: PTH120
            for name in found:
                files.check(name)
        try:
            return [file_uri(name) for name in found]
        except UnicodeEncodeError as error:
            name = readable(os.path.relpath(error.object, self.basedir))
            raise WorkflowException(f"{name} has a name that is not UTF-8, so it can be no output") from error

    def open(self, fn: str, mode: str) -> IO[Any]:
        """Open a file to read; one at an http(s) URL is fetched."""
        if urlsplit(fn).scheme in ("http", "https"):
            content = fetch_http(fn, self.policy)
            return io.BytesIO(content) if "b" in mode else io.StringIO(content.decode())
        if set(mode) - set("rbt"):
            raise ValueError(f"files of a run are not written to by this way: {mode!r}")
        with self.policy.files.checked(abspath(fn, self.basedir)) as (real, name):
            status, elsewhere = os.stat(name), self.policy.files.elsewhere  # noqa: PTH116
            if elsewhere is None or not is_stand_in(status):
                return self._open_local(os.path.basename(real), Path(name), mode)  # noqa: PTH119
        if "b" in mode:
            return cast("IO[Any]", LaterFile(real, status.st_size, elsewhere))
        elsewhere.bring(real)
        return self.open(fn, mode)

    def _open_local(self, called: str, path: Path, mode: str) -> IO[Any]:
        """Open a regular file; cwl.output.json, which cwltool reads as a whole, within its limits.

        Args:
            called: its name.
            path: by which it is held.
            mode: as of :func:`open`.

        Raises:
            ValidationException: it is something else, or too large.
        """
        try:
            if called == OUTPUT_OBJECT and "b" not in mode:
                return io.StringIO(read_output_object(path, self.most_output))
            return os.fdopen(open_regular(path), mode)
        except NotSmallError as error:
            reason = str(error).partition(" ")[2]  # it knows the file by a number
            raise ValidationException(f"{readable(called)} {reason}") from error

    def exists(self, fn: str) -> bool:
        """Whether there is a file or directory that may be read; http(s) is taken on trust."""
        return _is_remote(fn) or self._allowed(fn, Path.exists)

    def isfile(self, fn: str) -> bool:
        """Whether it is a file that may be read."""
        return _is_remote(fn) or self._allowed(fn, Path.is_file)

    def isdir(self, fn: str) -> bool:
        """Whether it is a directory that may be read.

        Raises:
            ValidationException: it is something else than a file or directory, a pipe or a broken link.
        """
        if _is_remote(fn) or fn.startswith("_:"):
            return False
        if self._allowed(fn, Path.is_dir):
            return True
        path = abspath(fn, self.basedir)
        wrong = what_is_wrong(path)
        if wrong is not None:
            name = readable(os.path.basename(path))  # noqa: PTH119
            raise ValidationException(f"{name} is {wrong}, so it can be no File or Directory")
        return False

    def _allowed(self, name: str, test: Any) -> bool:
        path = self._permitted.get(name)
        if path is not None:
            return bool(test(path))
        path = Path(abspath(name, self.basedir))
        if not test(path) or not self.policy.files.allows(real_path(path)):
            return False
        self._permitted[name] = path
        return True

    def size(self, fn: str) -> int:
        """Size of a file, bytes.

        Raises:
            OSError: there is none, it is remote, or a literal.
        """
        if _is_remote(fn) or fn.startswith("_:"):
            raise OSError(f"the size of {fn} is not known")
        return self._local(fn).stat().st_size

    def listdir(self, fn: str) -> list[str]:
        """``file://`` URLs of what is in a directory."""
        base = fn if fn.startswith("file://") else file_uri(abspath(fn, self.basedir))
        with self.policy.files.checked(abspath(fn, self.basedir)) as (_, name):
            return [f"{base.rstrip('/')}/{quote(entry)}" for entry in sorted(os.listdir(name))]  # noqa: PTH208

    def realpath(self, path: str) -> str:
        """The path as it is: paths of sessions do not exist here."""
        return path


def _is_remote(name: str) -> bool:
    return urlsplit(name).scheme in ("http", "https")


def fs_access(policy: Policy, most_output: int = MOST_BYTES) -> type[RunFsAccess]:
    """A file-access class bound to ``policy``, and to how large a cwl.output.json may be: cwltool wants a
    constructor of one argument."""
    return type("BoundFsAccess", (RunFsAccess,), {"policy": policy, "most_output": most_output})
