"""Absolute URLs of what this server serves, as the client that asks must call them."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.requests import Request

from wes_bridge.wes.document import BASE_PATH

_HOST = re.compile(r"^[A-Za-z0-9._~:\[\]-]{1,255}$")


class Links:
    """URLs below one base.

    Args:
        base: absolute, ending in the API's base path, without a slash at the end.
    """

    def __init__(self, base: str) -> None:
        self.base = base

    @classmethod
    def of(cls, request: Request, public_url: str | None) -> Links:
        """The links for one request.

        Args:
            request: its ``Host`` header is what the client calls us.
            public_url: the service's root as configured; wins over the header.
        """
        root = public_url or _root(request)
        return cls(root.rstrip("/").removesuffix(BASE_PATH) + BASE_PATH)

    def stream(self, run_id: str, name: str) -> str:
        """A run's ``stdout`` or ``stderr``."""
        return f"{self.base}/runs/{run_id}/logs/{name}"

    def tasks(self, run_id: str) -> str:
        """A run's list of tasks."""
        return f"{self.base}/runs/{run_id}/tasks"

    def task_stream(self, run_id: str, task_id: str, name: str) -> str:
        """A task's ``stdout`` or ``stderr``."""
        return f"{self.base}/runs/{run_id}/tasks/{quote(task_id, safe='')}/{name}"

    def file(self, run_id: str, path: str) -> str:
        """A file or folder of a run; ``path`` relative to the run's folder, unquoted."""
        return f"{self.base}/runs/{run_id}/files/{quote(path)}"


def _root(request: Request) -> str:
    host = request.headers.get("host", "")
    if not _HOST.match(host):
        name, port = request.scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else name
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}"
