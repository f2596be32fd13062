"""SRCNet's Permissions API, which decides route by route whether a user may.

Its question has the user's token in the query, so URLs of questions are never logged or shown.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from wes_bridge.auth.principal import Principal
from wes_bridge.lasting import LastingOfEach
from wes_bridge.model.access import PermissionsConfig

_TIMEOUT = httpx.Timeout(5.0, connect=3.0)
_MANY = 10_000
_FAILED = LastingOfEach(logging.getLogger(__name__), "{}")
for _name in ("httpx", "httpcore"):  # they log URLs
    logging.getLogger(_name).setLevel(max(logging.getLogger(_name).level, logging.WARNING))


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    is_authorised: bool


class Permissions:
    """Asks for each route and user, and believes an answer for a while. No answer is a no.

    Args:
        config: where, and as which service.
        routes: templates of the server's paths: ``/runs/{run_id}``.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        config: PermissionsConfig,
        routes: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._routes = [
            (route, re.compile(re.sub(r"{\w+}", "[^/]+", route.replace("{path}", ".*")))) for route in routes
        ]
        self._clock = clock
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False)
        self._known: dict[tuple[bytes, str, str], tuple[bool, float]] = {}

    async def allows(self, principal: Principal, method: str, path: str) -> bool:
        """Whether a user may do this. Only those who came with an issuer's token are asked about."""
        if principal.token is None:
            return True
        token, route = principal.token.get_secret_value(), self._route(path)
        key = hashlib.sha256(token.encode()).digest(), method, route
        known = self._known.get(key)
        if known is not None and self._clock() < known[1]:
            return known[0]
        answer = await self._ask(token, method, route)
        if answer is None:
            return False
        if len(self._known) >= _MANY:
            self._known.clear()
        self._known[key] = answer, self._clock() + self._config.cache
        return answer

    async def close(self) -> None:
        """Let go of its connections."""
        await self._http.aclose()

    def _route(self, path: str) -> str:
        return next((route for route, pattern in self._routes if pattern.fullmatch(path)), path)

    async def _ask(self, token: str, method: str, route: str) -> bool | None:
        config, fault = self._config, "the Permissions API does not answer, so nobody may do anything"
        asked = {"version": config.version, "route": route, "method": method, "token": token}
        try:
            answer = await self._http.get(
                f"{config.url.rstrip('/')}/authorise/route/{config.service}", params=asked
            )
            if answer.status_code in (200, 401, 403):
                is_no = answer.status_code != 200
                told = not is_no and _Answer.model_validate_json(answer.content).is_authorised
                _FAILED.over(fault)
                return told
            _FAILED.seen(fault, f"it answered {answer.status_code}", logging.ERROR)
        except (httpx.HTTPError, ValidationError) as error:
            _FAILED.seen(fault, type(error).__name__, logging.ERROR)  # its text may hold the URL
        return None
