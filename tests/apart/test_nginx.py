"""A service behind nginx, and nodes that reach it only so: signed addresses come through as they are."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import requests

from tests.apart.conftest import ONLY_WEB
from tests.apart.test_runs import FOLDER, sh
from tests.nginx import free_port, start_nginx
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Starter
from wes_bridge import WESClient
from wes_bridge.cli.flow import reasons
from wes_bridge.federation.ways import SERVED

NAMES = ["a#b", "a%20b", "a b", "ä", "a?b", "a:b", "a+b", "a;b", 'a"b', "a&b=c", "a\nb", "e/f"]
MAKE = "mkdir -p d/e; " + "; ".join(f"printf %s {quote(name)} > d/{quote(name)}" for name in NAMES)
COUNT = 'cd "$1"; find . -type f -exec cat {} + | wc -c'


def test_odd_names_come_through_a_proxy(
    start_service: Starter, start_node: NodeStarter, tmp_path: Path
) -> None:
    """One node makes the files, and the other fetches them from the service, since only it has many cores."""
    cheap, dear = ({"monetary": {"min": price, "max": price}} for price in (1, 9))
    small = start_node(name="small", cores=1, quotes=cheap, **ONLY_WEB)
    large = start_node(name="large", cores=4, quotes=dear, **ONLY_WEB)
    brokers = [
        {"name": name, "url": node.url, "shares_files": False}
        for name, node in (("small", small), ("large", large))
    ]
    port = free_port()
    public = f"http://127.0.0.1:{port}/"
    service = start_service(
        nodes=[], brokers=brokers, public_url=public, engine={"choosing": {"policy": "cheapest"}}
    )
    direct = (service.state / SERVED).read_text().split()[1]
    proxy = start_nginx(tmp_path / "nginx", f"proxy_pass {direct}; proxy_set_header Host $http_host;", port)
    cores = {"ResourceRequirement": {"coresMin": 4}}
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {},
        "outputs": {"n": {"type": "File", "outputSource": "b/n"}},
        "steps": {
            "a": {
                "run": sh(MAKE, {}, {"o": {**FOLDER, "outputBinding": {"glob": "d"}}}),
                "in": {},
                "out": ["o"],
            },
            "b": {
                "run": sh(COUNT, {"d": "Directory"}, {"n": "stdout"}, stdout="n.txt", requirements=cores),
                "in": {"d": "a/o"},
                "out": ["n"],
            },
        },
    }
    (tmp_path / "w.cwl").write_text(json.dumps(document))
    try:
        with WESClient(direct) as client:
            run_id = client.submit(tmp_path / "w.cwl")
            client.wait(run_id, timeout=120)
            run = client.run(run_id)
            assert run["state"] == "COMPLETE", list(reasons(client, run))
            assert [task["node"] for task in client.tasks(run_id)] == ["small", "large"]
            place = run["outputs"]["n"]["location"].replace(public, f"{direct}/")
            size = sum(len(name.encode()) for name in NAMES)
            assert requests.get(place, timeout=30).text.strip() == str(size)
        fetched = [line for line in proxy.said() if line.startswith("200 GET /data/")]
        assert len(fetched) == 1 + len(NAMES), "the manifest and each file"
        assert any("a%2520b" in line for line in fetched)
    finally:
        proxy.stop()
