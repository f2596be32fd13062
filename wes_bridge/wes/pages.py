"""The front door: ``/`` tells people and programs where to go. The pages proper are ``web``'s."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from wes_bridge.wes.document import BASE_PATH
from wes_bridge.wes.links import Links

_HOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>
<h1>{name}</h1><p>A GA4GH Workflow Execution Service that runs CWL.</p>
<ul><li><a href="{base}/ui/">The interface, to read and to try</a></li>
<li><a href="{base}/service-info">Service info</a></li>
<li><a href="{base}/runs">Runs</a></li><li><a href="{base}/openapi.json">OpenAPI document</a></li></ul></html>
"""


class PageHandlers:
    """Pages outside the standard's base path."""

    def __init__(self, name: str, public_url: str | None) -> None:
        self._name = name
        self._public_url = public_url

    async def home(self, request: Request) -> Response:
        """``/``."""
        return HTMLResponse(_HOME.format(name=self._name, base=Links.of(request, self._public_url).base))

    async def docs(self, request: Request) -> Response:
        """``/docs``: where people look for the interface first."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}{BASE_PATH}/ui/")
