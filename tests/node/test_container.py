"""Containers, with a tiny image made here."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import (
    ROOT,
    NodeProcess,
    Request,
    Starter,
    engine,
    kinds,
    session_kinds,
    texts,
)
from tests.node.test_staging import literal
from wes_bridge.config import NodeConfig
from wes_bridge.model import execution_broker as eb
from wes_bridge.node import messages
from wes_bridge.node.platforms import link_local
from wes_bridge.node.platforms.closing import Closing
from wes_bridge.node.platforms.container import ContainerPlatform

IMAGE = "localhost/wb-test:busybox"
WITH_ENTRYPOINT = "localhost/wb-test:entrypoint"
pytestmark = pytest.mark.podman


def cli(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [engine() or "podman", *words], capture_output=True, text=True, timeout=120, check=False, **more
    )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Imports the images unless they are there."""
    if engine() is None:
        pytest.skip("neither podman nor docker is installed")
    if cli("image", "inspect", IMAGE, WITH_ENTRYPOINT).returncode == 0:
        return IMAGE
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox (static) is not installed")
    root = tmp_path_factory.mktemp("rootfs")
    for folder in ("bin", "etc", "tmp", "usr/bin", "proc", "dev", "sys"):
        (root / folder).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in subprocess.check_output([busybox, "--list"], text=True).split():
        link = root / "bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    archive = root.with_suffix(".tar")
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    for name, changes in ((IMAGE, []), (WITH_ENTRYPOINT, ["--change", 'ENTRYPOINT ["echo", "entry"]'])):
        done = cli("import", *changes, str(archive), name)
        if done.returncode != 0:
            pytest.skip(f"cannot import an image: {done.stderr[-300:]}")
    if cli("run", "--rm", IMAGE, "true").returncode != 0:
        pytest.skip("containers do not run here: " + cli("run", "--rm", IMAGE, "true").stderr[-300:])
    return IMAGE


@pytest.fixture(scope="module")
def boxes(start_node: Starter, image: str) -> NodeProcess:
    return start_node(platforms=["process", "container"], pull_images=False)


def container(*command: str, image: str = IMAGE, **more: Any) -> dict[str, Any]:
    return {
        "kind": eb.DOCKER_CONTAINER,
        "image": {"locations": [image]},
        "command": list(command),
        "root": ROOT,
        "workdir": f"{ROOT}/out",
        **more,
    }


def sh(script: str, **more: Any) -> dict[str, Any]:
    return container("/bin/sh", "-c", script, **more)


def test_runs_and_cleans_up(boxes: NodeProcess, tmp_path: Path) -> None:
    session = boxes.completed(
        Request(sh("echo out; echo err >&2; pwd; echo x > x", environment={"A": "b c\nd"})).output(
            tmp_path / "out"
        )
    )
    assert boxes.stream(session) == f"out\nerr\n{ROOT}/out\n".replace("err\n", "")
    assert boxes.stream(session, "stderr") == "err\n"
    assert (tmp_path / "out/x").read_text() == "x\n"
    assert (tmp_path / "out/x").owner() == Path.home().owner()
    uuid = session["meta"]["uuid"]
    assert cli("container", "inspect", f"wb-{uuid}").returncode != 0


CLOSED = """
ip rule; ip -6 rule
ip rule del to 169.254.0.0/16 2>&1
nc -w 5 169.254.169.254 80 </dev/null 2>&1
"""


def test_the_credentials_of_the_cloud_are_out_of_reach(boxes: NodeProcess) -> None:
    for _ in range(3):  # podman fails now and then where others make networks on this machine
        session = boxes.run(Request(sh(CLOSED)))
        if "urn:wes-bridge:platform-failed" not in session_kinds(session):
            break
    told = boxes.stream(session)
    for place in link_local.CLOSED:
        assert re.search(f"from all to {place.removesuffix('/128')} .*unreachable", told), told
    assert "Operation not permitted" in told
    assert "Network is unreachable" in told
    assert "urn:wes-bridge:unenforced" not in session_kinds(session)


def test_an_engine_that_cannot_close_them_is_told(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = version ] && echo Docker\n')
    docker.chmod(0o755)
    platform = ContainerPlatform(NodeConfig(container_engine=str(docker), pull_images=True), tmp_path)
    [gap] = asyncio.run(platform.gaps())
    assert (gap.what, gap.quiet) == ("link_local", False)
    for access, told in ((True, [messages.UNENFORCED]), (False, [])):
        request = eb.ExecutionRequest.model_validate(Request(container("x", network={"access": access})).body)
        assert [note.kind for note in asyncio.run(platform.check(request))] == told
    machine = NodeConfig(container_engine=str(docker), step_network="machine")
    assert asyncio.run(ContainerPlatform(machine, tmp_path).gaps()) == []


@pytest.mark.parametrize("strict", [False, True])
def test_where_no_rules_can_be_made_a_note_is_left_or_nothing_runs(tmp_path: Path, strict: bool) -> None:
    """As the engine's runtime does it, in a network whose rules this process has no right to change."""
    closing = Closing(tmp_path, strict=strict)
    [folder] = [Path(word) for word in closing.options() if word.startswith(str(tmp_path))]
    hook = json.loads((folder / "wes-bridge.json").read_text())["hook"]
    words = ["unshare", "--user", "--map-root-user", "--net", "setpriv", "--bounding-set=-net_admin"]
    command = [*words, hook["path"], *hook["args"][1:]]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network of one's own can be made here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is not strict
    assert closing.why_not() == (None if strict else "Operation not permitted")


def test_environment_and_entrypoint(boxes: NodeProcess) -> None:
    session = boxes.completed(Request(sh('echo "$A"', environment={"A": "b c\nd"})))
    assert boxes.stream(session) == "b c\nd\n"
    session = boxes.completed(Request(container("word", image=WITH_ENTRYPOINT)))
    assert boxes.stream(session) == "entry word\n"
    session = boxes.completed(Request(container("word", image=WITH_ENTRYPOINT, entrypoint="echo")))
    assert boxes.stream(session) == "word\n"


def test_exit_codes_and_signals(boxes: NodeProcess) -> None:
    session = boxes.run(Request(sh("exit 42")))
    assert (session["phase"], session["executable"]["exitCode"]) == ("FAILED", 42)
    assert boxes.run(Request(sh("exit 125")))["executable"]["exitCode"] == 125
    assert boxes.run(Request(container("no-such-command")))["executable"]["exitCode"] == 127
    assert boxes.completed(Request(sh("exit 3", successCodes=[3])))


def test_staging(boxes: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/two").write_text("2\n")
    (tmp_path / "a:b,c").write_text("odd\n")
    (tmp_path / "colon:").write_text("colon\n")
    (tmp_path / "f").write_text("1\n")
    (tmp_path / "w").write_text("w\n")
    script = (
        f"cat {ROOT}/in/f {ROOT}/in/odd {ROOT}/in/colon {ROOT}/d/sub/two {ROOT}/d/sub/three"
        f" {ROOT}/lit here copy; echo 3 >> copy; echo more >> {ROOT}/in/w;"
        f" echo x > {ROOT}/in/f || echo refused; echo y > {ROOT}/d/sub/two || echo refused"
    )
    request = Request(sh(script))
    request.data(f"{ROOT}/in/f", (tmp_path / "f").as_uri())
    request.data(f"{ROOT}/in/odd", (tmp_path / "a:b,c").as_uri())
    request.data(f"{ROOT}/in/colon", (tmp_path / "colon:").as_uri())
    request.data(f"{ROOT}/in/w", (tmp_path / "w").as_uri(), "READWRITE")
    request.data(f"{ROOT}/d", (tmp_path / "d").as_uri())
    request.data(f"{ROOT}/d/sub/three", literal("3\n"))
    request.data(f"{ROOT}/lit", literal(f"{ROOT}/lit\n"))
    request.data(f"{ROOT}/out/here", (tmp_path / "f").as_uri())
    request.data(f"{ROOT}/out/copy", (tmp_path / "f").as_uri(), "READWRITE", copy=True)
    session = boxes.completed(request.output(tmp_path / "out"))
    assert boxes.stream(session) == f"1\nodd\ncolon\n2\n3\n{ROOT}/lit\n1\n1\nrefused\nrefused\n"
    assert (tmp_path / "f").read_text() == "1\n"
    assert (tmp_path / "w").read_text() == "w\nmore\n"
    assert (tmp_path / "out/copy").read_text() == "1\n3\n"
    assert (tmp_path / "out/here").readlink() == tmp_path / "f"
    assert sorted(path.name for path in (tmp_path / "d").rglob("*")) == ["sub", "two"]


def test_links_in_outputs(boxes: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1\n")
    script = f"ln -s {ROOT}/in/f input; ln -s {ROOT}/lit literal; echo x > real; ln -s {ROOT}/out/real inner"
    request = Request(sh(script)).data(f"{ROOT}/in/f", (tmp_path / "f").as_uri())
    boxes.completed(request.data(f"{ROOT}/lit", literal("lit\n")).output(tmp_path / "out"))
    assert (tmp_path / "out/input").readlink() == tmp_path / "f"
    assert (tmp_path / "out/literal").read_text() == "lit\n"
    assert (tmp_path / "out/inner").read_text() == "x\n"


def test_paths_without_a_root(boxes: NodeProcess, tmp_path: Path) -> None:
    """As a client of the reference broker asks: volumes anywhere, no workdir, no root."""
    (tmp_path / "f").write_text("1\n")
    shared = tmp_path / "shared"
    shared.mkdir()
    executable = container("sh", "-c", "cat /input /volumes/lit > /shared/result")
    del executable["root"], executable["workdir"]
    request = Request(executable).data("/input", (tmp_path / "f").as_uri())
    request.data("/volumes/lit", literal("lit\n")).data("/shared", shared.as_uri(), "READWRITE")
    boxes.completed(request)
    assert (shared / "result").read_text() == "1\nlit\n"


def test_streams(boxes: NodeProcess, tmp_path: Path) -> None:
    streams = {"stdin": {"path": f"{ROOT}/in/f"}, "stdout": {"path": "o/out"}}
    request = Request(container("cat", streams=streams)).data(f"{ROOT}/in/f", literal("through\n"))
    session = boxes.completed(request.output(tmp_path / "out"))
    assert (tmp_path / "out/o/out").read_text() == "through\n"
    assert boxes.stream(session) == "through\n"


def test_network(boxes: NodeProcess) -> None:
    session = boxes.completed(Request(container("cat", "/proc/net/dev", network={"access": False})))
    names = [line.split(":")[0].strip() for line in boxes.stream(session).splitlines()[2:]]
    assert names == ["lo"]
    assert "urn:wes-bridge:unenforced" not in session_kinds(session)


def test_memory_is_limited(boxes: NodeProcess) -> None:
    request = Request(
        sh("head -c 300000000 /dev/zero | tail -c 300000000 | wc -c"), memory={"maxBytes": 50_000_000}
    )
    session = boxes.run(request)
    assert boxes.stream(session) != "300000000\n" or session["phase"] == "FAILED"


def test_time_limit_and_cancel(boxes: NodeProcess) -> None:
    session = boxes.run(Request(container("sleep", "100", timeLimit=1)))
    assert session_kinds(session) == {"urn:wes-bridge:time-limit"}
    assert cli("container", "inspect", f"wb-{session['meta']['uuid']}").returncode != 0
    session = boxes.until(boxes.begin(Request(sh("trap '' TERM; while :; do sleep 1; done"))), _running)
    time.sleep(0.5)
    boxes.update(session, "CANCELLED")
    assert boxes.end(session)["phase"] == "CANCELLED"
    assert cli("container", "inspect", f"wb-{session['meta']['uuid']}").returncode != 0


def _running(session: dict[str, Any]) -> bool:
    return session["phase"] == "RUNNING"


def test_image_that_is_not_here(boxes: NodeProcess, start_node: Starter) -> None:
    def asked(**image: Any) -> dict[str, Any]:
        return {"kind": eb.DOCKER_CONTAINER, "image": image, "command": ["true"]}

    [message] = boxes.refused(Request(asked(locations=["--help"])))
    assert (message["kind"], message["message"]) == (
        "urn:invalid-value",
        "--help is not the name of an image",
    )
    [message] = boxes.refused(Request(asked(locations=["localhost/wb-test:none"])))
    assert message["kind"] == "urn:image-unavailable"
    assert "localhost/wb-test:none" in message["message"]
    assert kinds(boxes.refused(Request(asked()))) == {"urn:missing-value"}
    [message] = boxes.refused(Request(asked(locations=[IMAGE], digest="sha256:" + "0" * 64)))
    assert message["kind"] == "urn:image-digest-mismatch"
    here = cli("image", "inspect", "--format", "{{.Digest}}", IMAGE).stdout.strip()
    assert f"it is {here}, not sha256:000" in message["message"]
    [message] = boxes.refused(Request(asked(locations=[IMAGE], platform={"architecture": "s390x"})))
    assert "s390x" in message["message"]
    boxes.completed(Request(asked(locations=["localhost/wb-test:none", IMAGE], digest="")))
    digest = cli("image", "inspect", "--format", "{{.Id}}", IMAGE).stdout.strip()
    boxes.completed(Request(asked(locations=[IMAGE], digest=digest)))


def test_image_that_cannot_be_pulled(start_node: Starter, image: str) -> None:
    node = start_node(platforms=["container"], images={"friendly": IMAGE})
    node.completed(Request(container("true", image="friendly")))
    other = container("true", image="friendly") | {
        "image": {"locations": [IMAGE], "digest": "sha256:" + "0" * 64}
    }
    (warning,) = node.offer(Request(other))["meta"]["messages"]
    assert "it will be pulled again" in warning["message"]
    missing = container("true", image="127.0.0.1:1/no/such:image")
    session = node.run(Request(missing), 120)
    assert session["phase"] == "FAILED"
    assert "urn:image-unavailable" in session_kinds(session)
    assert "127.0.0.1:1/no/such:image" in texts(session)
    assert "exitCode" not in session["executable"]
    [message] = node.refused(Request(missing))
    assert message["kind"] == "urn:image-unavailable"


def test_an_image_that_must_be_there_is_not_pulled(start_node: Starter, tmp_path: Path) -> None:
    """What a registry has by the name is another image."""
    asked = {
        "kind": eb.DOCKER_CONTAINER,
        "image": {"locations": ["mine"], "pull": False},
        "command": ["true"],
    }
    fake = tmp_path / "podman"
    fake.write_text(f'#!/bin/sh\n[ "$1" = pull ] && touch {tmp_path}/pulled\n[ "$1" = version ]\n')
    fake.chmod(0o755)
    node = start_node(platforms=["container"], container_engine=str(fake))
    [message] = node.refused(Request(asked))
    assert message["kind"] == "urn:image-unavailable"
    assert "mine is not here, and the request asks for one that is" in message["message"]
    assert not (tmp_path / "pulled").exists()


def test_engine_that_fails(start_node: Starter, image: str, tmp_path: Path) -> None:
    fake = tmp_path / "podman"
    fake.write_text(
        "#!/bin/sh\n"
        '[ "$1" = run ] && { echo "Error: the engine is on fire" >&2; exit 125; }\n'
        f'exec {engine()} "$@"\n'
    )
    fake.chmod(0o755)
    node = start_node(platforms=["container"], container_engine=str(fake))
    session = node.run(Request(container("true")))
    assert session["phase"] == "FAILED"
    assert "on fire" in texts(session)
    assert "exitCode" not in session["executable"]


WILD_WORDS = "echo 'Error: OCI runtime error: crun: made up' >&2; exit"


def test_a_network_that_another_container_spoiled_is_made_again(
    start_node: Starter, image: str, tmp_path: Path
) -> None:
    fake = tmp_path / "engine"
    fake.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = run ] && echo x >>{tmp_path}/tries && [ $(wc -l <{tmp_path}/tries) -lt 3 ] && {{\n'
        """  echo 'Error: plugin type="tuning" failed (add): unknown FS magic on "/run/netns/x"' >&2\n"""
        "  exit 126; }\n"
        f'exec {engine()} "$@"\n'
    )
    fake.chmod(0o755)
    node = start_node(platforms=["container"], container_engine=str(fake))
    session = node.completed(Request(container("echo", "here", image=image)))
    assert node.stream(session) == "here\n"
    assert (tmp_path / "tries").read_text().startswith("x\nx\nx\n")


def test_the_engines_failures_are_not_the_commands(boxes: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1\n")
    failed = boxes.run(Request(container("true")).data("/proc/x", (tmp_path / "f").as_uri()))
    assert (failed["phase"], session_kinds(failed)) == ("FAILED", {"urn:wes-bridge:platform-failed"})
    assert "/proc" in texts(failed)
    assert "exitCode" not in failed["executable"]
    failed = boxes.run(Request(container("true")).data("/etc/passwd/x", (tmp_path / "f").as_uri()))
    assert session_kinds(failed) == {"urn:wes-bridge:platform-failed"}
    assert "exitCode" not in failed["executable"]


@pytest.mark.parametrize("code", [125, 126, 127])
def test_a_commands_own_failure_stays_its_own(boxes: NodeProcess, code: int) -> None:
    failed = boxes.run(Request(sh(f"{WILD_WORDS} {code}")))
    assert (failed["phase"], failed["executable"]["exitCode"]) == ("FAILED", code)
    assert "urn:wes-bridge:platform-failed" not in session_kinds(failed)


@pytest.mark.parametrize(
    ("command", "code"),
    [("no-such-command", 127), ("/no/such", 127), ("./no-such", 127), ("/etc/passwd", 126), ("/etc", 126)],
)
def test_a_command_that_cannot_be_executed_is_the_commands_failure(
    boxes: NodeProcess, command: str, code: int
) -> None:
    failed = boxes.run(Request(container(command)))
    assert (failed["phase"], failed["executable"]["exitCode"]) == ("FAILED", code)


@pytest.mark.parametrize(
    ("said", "code", "is_engines"),
    [
        (
            "docker: Error response from daemon: OCI runtime create failed: no\nSee 'docker run --help'.",
            126,
            True,
        ),
        ('docker: Error response from daemon: OCI runtime create failed: exec: "x": not found', 127, False),
        ("Error: crun: executable file `x` not found in $PATH: No such file or directory", 127, False),
        ("Error: crun: open executable: Permission denied: OCI permission denied", 126, False),
        ("Error: OCI runtime error: crun: cgroups in hybrid mode not supported", 126, True),
        ("sh: no-such: not found", 127, False),
    ],
)
def test_an_engine_that_does_not_tell_whether_it_started_is_judged_by_its_words(
    start_node: Starter, image: str, tmp_path: Path, said: str, code: int, is_engines: bool
) -> None:
    (tmp_path / "said").write_text(said + "\n")
    fake = tmp_path / "docker"
    fake.write_text(
        "#!/bin/sh\n"
        '[ "$1" = version ] && { echo Version: 20.10; exit 0; }\n'
        '[ "$1" = run ] && {\n'
        '  for word; do [ "$before" = --cidfile ] && echo 1 >"$word"; before=$word; done\n'
        f"  cat {tmp_path}/said >&2; exit {code}\n"
        "}\n"
        f'exec {engine()} "$@"\n'
    )
    fake.chmod(0o755)
    node = start_node(platforms=["container"], container_engine=str(fake))
    failed = node.run(Request(container("true")))
    assert failed["phase"] == "FAILED"
    if is_engines:
        told = {"urn:wes-bridge:platform-failed", "urn:wes-bridge:unenforced"}  # it knows no hooks either
        assert session_kinds(failed) == told
        assert said.splitlines()[0] in texts(failed)
        assert "exitCode" not in failed["executable"]
    else:
        assert failed["executable"]["exitCode"] == code


def test_no_engine(start_node: Starter) -> None:
    node = start_node(platforms=["container"], container_engine="no-such-engine")
    [message] = node.refused(Request(container("true")))
    assert message["kind"] == "uri:unknown-type"
    assert message["message"] == "this node runs no containers: no-such-engine is not installed here"


def test_a_node_for_other_things_says_so_in_words_and_nothing_else(start_node: Starter) -> None:
    node = start_node(platforms=["process"])
    [message] = node.refused(Request(container("true"), cores={"min": 4096}))
    assert message["kind"] == "uri:unknown-type"
    assert message["message"] == "this node runs no containers: its platforms are process"


def test_an_engine_that_is_out_of_order_is_an_engine(start_node: Starter, tmp_path: Path) -> None:
    """Clients leave an image out where there is no engine; this one only has to be started."""
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\n[ -e $0.on ] || { echo 'Cannot connect to the daemon' >&2; exit 1; }\n")
    fake.chmod(0o755)
    node = start_node(platforms=["container"], container_engine=str(fake))
    [message] = node.refused(Request(container("true")))
    assert message["kind"] == "urn:wes-bridge:engine-failed"
    assert "Cannot connect to the daemon" in message["message"]
    (tmp_path / "docker.on").touch()
    assert node.offer(Request(container("true")))


def test_container_survives_the_node(start_node: Starter, image: str, tmp_path: Path) -> None:
    node = start_node("--log-level=warning", platforms=["container"])
    script = "echo before; until [ -e go ]; do sleep 0.1; done; echo after; exit 5"
    request = Request(sh(script)).output(tmp_path / "out")
    session = node.until(node.begin(request), _running)
    stays = node.until(node.begin(Request(container("sleep", "100"))), _running)
    time.sleep(1)
    node.kill()
    node.start()
    (node.state / "sessions" / session["meta"]["uuid"] / "fs/out/go").touch()
    session = node.end(session)
    assert session["executable"]["exitCode"] == 5
    assert node.stream(session) == "before\nafter\n"
    node.update(stays, "CANCELLED")
    assert node.end(stays)["phase"] == "CANCELLED"
    assert cli("container", "inspect", f"wb-{stays['meta']['uuid']}").returncode != 0


def test_user(boxes: NodeProcess) -> None:
    session = boxes.completed(Request(container("id", "-u")))
    assert boxes.stream(session).strip() == str(os.geteuid())


def test_an_output_directory_outside_the_root(boxes: NodeProcess, tmp_path: Path) -> None:
    request = Request(sh("pwd; touch /other/thing", workdir="/other")).output(tmp_path / "out", "/other")
    session = boxes.completed(request)
    assert boxes.stream(session) == "/other\n"
    assert (tmp_path / "out/thing").exists()
