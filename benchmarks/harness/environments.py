"""Virtual environments: ours with this checkout, each peer's with its packages. Standard library only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
REQUIREMENTS = {
    "cwltool": ["cwltool"],
    "wes-service": ["wes-service"],
    "sapporo": ["sapporo"],
    "toil": ["toil[cwl,server,aws]"],
}
_STAMP = "installed"


class EnvironmentFailed(Exception):
    """A virtual environment could not be made; the text says why."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment."""

    name: str
    path: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.path / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin / "python"

    def version(self, package: str | None = None) -> str:
        """The version of a package in it (default: the one it is named after)."""
        code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
        command = [str(self.python), "-c", code, package or self.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Environments:
    """All of them, made when they are first asked for and kept.

    Args:
        folder: where they are.

    Attributes:
        made: those asked for so far, by name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: dict[str, Environment] = {}

    def ours(self) -> Environment:
        """Wes-bridge as it is in this checkout, and what the harness itself needs.

        Raises:
            EnvironmentFailed: it cannot be made.
        """
        stamp = f"{CHECKOUT}\n{(CHECKOUT / 'pyproject.toml').read_text()}"
        return self._make("wes-bridge", ["-e", str(CHECKOUT)], stamp)

    def peer(self, name: str) -> Environment:
        """A peer's, from PyPI.

        Raises:
            EnvironmentFailed: it cannot be made.
        """
        return self._make(name, REQUIREMENTS[name], " ".join(REQUIREMENTS[name]))

    def _make(self, name: str, packages: Sequence[str], stamp: str) -> Environment:
        if name not in self.made:
            self.made[name] = self._installed(name, packages, stamp)
        return self.made[name]

    def _installed(self, name: str, packages: Sequence[str], stamp: str) -> Environment:
        environment = Environment(name, self._folder / name)
        note = environment.path / _STAMP
        if environment.python.exists() and note.exists() and note.read_text() == stamp:
            return environment
        print(f"installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
        note.unlink(missing_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(environment.path)])
        _run([str(environment.python), "-m", "pip", "install", "--quiet", "--no-input", *packages])
        note.write_text(stamp)
        return environment


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentFailed(" / ".join(words[-3:]) or f"exit code {done.returncode}")
