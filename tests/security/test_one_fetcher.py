"""What others wrote is asked through ``fetching``; who else speaks HTTP is listed here, with why."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "wes_bridge"
CLIENTS = {"aiohttp", "httpcore", "httpx", "requests", "urllib3", "http.client", "urllib.request"}
TRUSTED = "the configuration's own addresses, or the user's"
REASONS = {
    "aggregator": TRUSTED + ": brokers; what they link to is below their own URL",
    "cli": TRUSTED,
    "client": TRUSTED,
    "demo": TRUSTED,
    "cwl/loading/documents.py": "reads data: URLs",
    "engine/worker.py": TRUSTED + ": issuers of delegated tokens; brokers by federation",
    "cwl/loading/apart.py": "names the errors of requests, which is not used",
    "cwl/loading/fetching.py": "schema-salad wants a session of requests, which is not used",
    "cwl/loading/schemas.py": "schemas are pickled with one, which is not used",
    "federation": TRUSTED + ": brokers; listed ones by a resolver of fetching",
    "fetching": "it is the fetcher",
    "node/user_tokens.py": TRUSTED + ": issuers of users' tokens for stores",
    "notify/sending.py": "a session of aiohttp with a resolver of fetching",
    "wes/proxy.py": "streams of brokers, at addresses that federation has checked",
    "wes/service.py": "makes the client of wes/proxy.py",
    "auth": TRUSTED + ": issuers and decision points",
}


def test_nobody_else_speaks_http() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
        tree = ast.walk(ast.parse(path.read_text()))
        names |= {node.module or "" for node in tree if isinstance(node, ast.ImportFrom) and node.level == 0}
        used = {name for name in names if name in CLIENTS or name.partition(".")[0] in CLIENTS}
        place = path.relative_to(PACKAGE).as_posix()
        if used and not any(place.startswith(known) for known in REASONS):
            found[place] = used
    assert found == {}, "use wes_bridge.fetching, or say here why not"
