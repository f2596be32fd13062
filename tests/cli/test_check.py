"""``wes-bridge check`` against a real service and real nodes: what is said of each, and whether it is so."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.conftest import AggregatorStarter, start_aggregator
from tests.cli.conftest import Command
from tests.federation.fake_calycopis import FakeCalycopis
from tests.node.conftest import NodeProcess, start_node
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter, start_service
from tests.stores import Dav, ObjectStore, dav, object_store

__all__ = ["dav", "object_store", "start_aggregator", "start_node", "start_service"]
BOTH = "a file went there and came back"
ONLY_WEB = {"data": ["http://", "data:"]}


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:
    """One for all tests here: it has a node of its own, and each test gives it brokers in a file."""
    return start_service(engine={"default_image": "alpine"})


def checked(command: Command, service: Service, *brokers: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Of a service's folder, and a file that names more brokers than its workers know."""
    settings = json.loads((service.state.parent / f"{service.state.name}.yaml").read_text())
    config = service.state.parent / "check.yaml"
    config.write_text(json.dumps(settings | {"brokers": list(brokers)}))
    return command("wes-bridge", "check", "--state", str(service.state), "--config", str(config))


def broker(node: NodeProcess, name: str = "n", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": node.url, **more}


def lines(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_nodes_of_the_service_see_its_workspace(command: Command, service: Service) -> None:
    done = checked(command, service)
    workspace = (service.state / "workspace").resolve()
    assert done.stdout == f"ok     here: the workspace {workspace}: a file went there and came back\n", lines(
        done
    )
    assert done.returncode == 0
    assert not list(workspace.glob(".wb-check*"))


def test_both_ways_over_http(command: Command, service: Service, start_node: NodeStarter) -> None:
    apart = broker(start_node(name="apart", **ONLY_WEB), "apart", shares_files=False)
    done = checked(command, service, apart)
    assert f"ok     apart: files over HTTP, both ways: {BOTH}\n" in done.stdout, lines(done)
    assert done.returncode == 0


def test_a_node_that_has_no_such_folder(command: Command, service: Service, start_node: NodeStarter) -> None:
    """It is said to share files, and takes none: and what to do is said."""
    node = start_node(name="far", data=["file:///srv/elsewhere/", "data:"])
    done = checked(command, service, broker(node, "far"))
    assert done.returncode == 1
    assert "FAILED far: the workspace" in done.stdout
    assert "this node takes only file:///srv/elsewhere/" in done.stdout
    assert f"to do: add file://{(service.state / 'workspace').resolve()}/ to data of the node" in done.stdout
    assert "shares_files: false" in done.stdout


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (["https://", "data:"], "to data of the node"),
        (["http://", "data:"], "set fetch: {private_hosts: ["),
    ],
)
def test_a_node_that_may_not_fetch_from_the_service(
    command: Command, service: Service, start_node: NodeStarter, data: list[str], says: str
) -> None:
    node = start_node(name="apart", data=data, fetch={"private_hosts": []})
    done = checked(command, service, broker(node, "apart", shares_files=False))
    assert done.returncode == 1
    assert says in done.stdout, lines(done)
    assert service.url.partition("://")[2] in done.stdout


def test_a_broker_that_is_not_there(command: Command, service: Service) -> None:
    done = checked(command, service, {"name": "gone", "url": "http://127.0.0.1:9/"})
    assert done.returncode == 1
    assert "FAILED gone: its address: gone cannot be reached at http://127.0.0.1:9/status" in done.stdout


def test_stores_and_servers(
    command: Command, service: Service, start_node: NodeStarter, object_store: ObjectStore, dav: Dav
) -> None:
    wrong = object_store.folder.parent / "wrong-keys"
    wrong.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    refused = object_store.settings(["private"]) | {"credentials": {"file": str(wrong)}}
    good_token, bad_token = object_store.folder.parent / "good", object_store.folder.parent / "bad"
    good_token.write_text("good")
    bad_token.write_text("bad")
    node = start_node(
        name="n",
        s3=[object_store.settings(["sky", "nowhere"]), refused],
        webdav=[{"url": dav.url, "token": {"file": str(good_token)}}],
    )
    server = dav.url.replace("dav:", "http:")
    dead = "http://127.0.0.1:9/"
    data = ["file:///", "s3://sky/", "s3://nowhere/", "s3://private/", dav.url, server, dead, "rucio:"]
    done = checked(command, service, broker(node, data=data))
    found = {line.split(": ")[1]: line for line in done.stdout.splitlines() if " n: " in line}
    assert {name: line.split()[0] for name, line in found.items()} == {
        next(name for name in found if name.startswith("the workspace")): "ok",
        "s3://sky/": "ok",
        "s3://nowhere/": "FAILED",
        "s3://private/": "FAILED",
        dav.url: "ok",
        server: "ok",
        dead: "FAILED",
        "rucio:": "?",
    }, lines(done)
    assert "no such bucket" in found["s3://nowhere/"]
    assert "the store answers" in found["s3://private/"]
    assert "see that the keys in s3 of the node may read there" in done.stdout


def test_folders(command: Command, service: Service, start_node: NodeStarter, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    (tmp_path / "same/catalogue.csv").write_text("1,2")
    same, missing = f"file://{tmp_path}/same/", f"file://{tmp_path}/missing/"
    node = start_node(name="n")
    workspace = f"file://{(service.state / 'workspace').resolve()}/"
    done = checked(command, service, broker(node, data=[workspace, same, missing]))
    assert f"ok     n: {same}: catalogue.csv is the same there" in done.stdout, lines(done)
    assert f"FAILED n: {missing}:" in done.stdout
    assert f"to do: mount {tmp_path}/missing at the node" in done.stdout


def test_each_node_behind_an_aggregator(
    command: Command, service: Service, start_node: NodeStarter, start_aggregator: AggregatorStarter
) -> None:
    """One of them may not fetch from the service: that one is named, and the other is well."""
    good, bad = start_node(name="good", **ONLY_WEB), start_node(name="bad", data=["data:"])
    site = start_aggregator(good, bad)
    hosts = [node.url.partition("://")[2].rstrip("/") for node in (good, bad)]
    apart = {"name": "site", "url": site.url, "shares_files": False, "hosts": hosts}
    done = checked(command, service, apart)
    assert done.returncode == 1
    assert f"ok     site/good: files over HTTP, both ways: {BOTH}\n" in done.stdout, lines(done)
    assert (
        "FAILED site/bad: files over HTTP, both ways: bad: data resource input-1: this node takes only"
        in done.stdout
    )
    assert "ok     site/bad" not in done.stdout


def test_a_broker_of_the_reference_dialect(command: Command, service: Service, tmp_path: Path) -> None:
    """The Java broker's stand-in, which shares nothing; then with an image that cannot send anything."""
    with contextlib.closing(FakeCalycopis(tmp_path / "volumes", tick=0.2)) as java:
        told = {"name": "java", "url": java.url, "dialect": "reference", "shares_files": False}
        done = checked(command, service, told)
        assert f"ok     java: files over HTTP, both ways: {BOTH}\n" in done.stdout, lines(done)
        (tmp_path / "bin").mkdir()
        for name in ("sh", "mkdir", "cat", "rm", "wc", "sleep"):
            (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
        java.path = str(tmp_path / "bin")
        done = checked(command, service, told)
        assert "the image alpine has nothing that could send" in done.stdout, lines(done)
        assert "to do: name an image with curl, GNU wget or python3" in done.stdout


def test_json(command: Command, service: Service) -> None:
    done = command("wes-bridge", "check", "--json", "--state", str(service.state))
    (seen,) = json.loads(done.stdout)
    assert (seen["broker"], seen["good"]) == ("here", True)


def test_there_must_be_a_workspace(command: Command, tmp_path: Path) -> None:
    done = command("wes-bridge", "check", "--state", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "start the service" in done.stderr
