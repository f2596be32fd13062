"""Steps through a broker of the reference dialect (a fake of it; the real one is in docs/interop.md)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.federation.fake_calycopis import FakeCalycopis
from tests.waiting import until
from wes_bridge.config import BrokerConfig, ServiceConfig
from wes_bridge.federation.box import local_path
from wes_bridge.federation.brokers import dialect_of, make_broker
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.federation.dialect import NATIVE, BusyError, CannotAskError
from wes_bridge.federation.listing import parse_listing
from wes_bridge.federation.placement import Progress
from wes_bridge.federation.placing import Federation
from wes_bridge.federation.reference import Reference, Shared
from wes_bridge.federation.requests import Requests
from wes_bridge.federation.wrapper import Wrapped, script
from wes_bridge.model.execution_broker import ExecutionRequest, Image, Session
from wes_bridge.model.preferences import Wish
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import Resources, StagedFile, StageMode, StepOutcome, StepPlan

ROOT = "/wb-3f9a51c07d2e8b64"
OUT = f"{ROOT}/out"
IMAGE = Image(locations=["alpine:latest"], digest="")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCalycopis]:
    broker = FakeCalycopis(tmp_path / "volumes", tick=0.2)
    yield broker
    broker.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web site with one file, ``table.csv``."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "table.csv").write_text("1,2\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Site:
    """A step's folder in a shared workspace, and the ways to run a step."""

    def __init__(self, fake: FakeCalycopis, folder: Path) -> None:
        self.fake = fake
        self.shared = folder / "shared"
        self.task = self.shared / "run" / "tasks" / "step"
        self.shared.mkdir()
        self.out = self.task / "out"
        self.seen: list[Progress] = []
        self.dialect = self.reference()

    def reference(self, **options: Any) -> Reference:
        return Reference(Shared({self.shared: PurePosixPath(self.shared)}), **options)

    def plan(self, *argv: str, name: str = "step", **more: Any) -> StepPlan:
        task = self.task.parent / name
        wanted: dict[str, Any] = {
            "environment": {"HOME": OUT, "TMPDIR": f"{ROOT}/tmp"},
            "image": "alpine:latest",
            "stdout_url": (task / "stdout").as_uri(),
            "stderr_url": (task / "stderr").as_uri(),
            "staged": [],
        }
        wanted |= more
        wanted["staged"] = [
            StagedFile(path=f"{ROOT}/tmp", directory=True, mode=StageMode.COPY),
            *wanted["staged"],
        ]
        output = (task / "out").as_uri()
        return StepPlan(name=name, argv=list(argv), root=ROOT, workdir=OUT, output_url=output, **wanted)

    def shell(self, text: str, **more: Any) -> StepPlan:
        return self.plan("sh", "-c", text, **more)

    def run(self, plan: StepPlan, patience: float = 0.0) -> StepOutcome:
        outcome = asyncio.run(self.place([plan], patience))[0]
        if outcome.output_dir:  # a further attempt has one of its own
            self.out = local_path(outcome.output_dir)
        return outcome

    async def place(self, plans: list[StepPlan], patience: float = 0.0) -> list[StepOutcome]:
        async with http_session() as http:
            broker = Broker("java", self.fake.url, http, dialect=self.dialect)
            federation = Federation([broker], deadline=20.0, patience=patience)
            steps = [federation.run(plan, self.report) for plan in plans]
            return await asyncio.wait_for(asyncio.gather(*steps), 120)

    async def report(self, progress: Progress) -> None:
        self.seen.append(progress)

    def output(self, name: str) -> str:
        return (self.out / name).read_text()


@pytest.fixture
def here(fake: FakeCalycopis, tmp_path: Path) -> Site:
    return Site(fake, tmp_path)


def test_outputs_streams_and_exit_code_come_back(here: Site) -> None:
    outcome = here.run(here.shell('echo hello; echo oops >&2; echo "$HOME" > home.txt'))
    assert outcome == StepOutcome(exit_code=0, output_dir=(here.task / "out").as_uri())
    assert (here.task / "stdout").read_text() == "hello\n"
    assert (here.task / "stderr").read_text() == "oops\n"
    assert (here.task / "out" / "home.txt").exists()
    assert sorted(path.name for path in here.task.iterdir()) == ["out", "sessions", "stderr", "stdout"]
    assert [path.read_text() for path in (here.task / "sessions").iterdir()] == ["exit 0\n"]


def test_a_redirected_stream_is_an_output(here: Site) -> None:
    assert here.run(here.plan("echo", "it's", stdout="sub/said.txt")).exit_code == 0
    assert here.output("sub/said.txt") == "it's\n"


def test_a_failing_command_is_its_own_fault_and_leaves_no_container(here: Site, fake: FakeCalycopis) -> None:
    outcome = here.run(here.shell("echo half > out.txt; exit 3"))
    assert outcome.exit_code == 3
    assert here.output("out.txt") == "half\n"
    assert [code for _, code in fake.containers] == [0]


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_a_command_that_is_none(here: Site, command: str, code: int) -> None:
    if os.access("/etc/passwd", os.X_OK):
        pytest.skip("everything is executable here")
    assert here.run(here.plan(command)).exit_code == code
    assert (here.task / "stderr").read_text()


def test_the_task_log_sees_it_run_and_what_is_different_there(here: Site, fake: FakeCalycopis) -> None:
    seen_running = []

    async def run() -> None:
        async def report(progress: Progress) -> None:
            compute = progress.session.compute if progress.session else None
            if compute and str(compute.phase) == "RUNNING":
                seen_running.append(progress)
                (here.shared / "go").touch()

        here.report = report  # type: ignore[method-assign]
        await here.place([here.shell(f"while [ ! -e {here.shared}/go ]; do sleep 0.1; done")])

    asyncio.run(run())
    assert seen_running
    assert seen_running[0].placement.notes == [
        "the command has a network there although the tool does not ask for one"
    ]


# --- inputs ---


def test_shared_files_are_mounted_where_they_are(here: Site, fake: FakeCalycopis) -> None:
    source = here.shared / "a.txt"
    source.write_text("mounted\n")
    item = StagedFile(path=f"{ROOT}/in/0/renamed.txt", url=source.as_uri())
    assert here.run(here.plan("cat", item.path, stdout="copy.txt", staged=[item])).exit_code == 0
    assert here.output("copy.txt") == "mounted\n"
    mounts = fake.requests[0]["compute"]["volumes"]
    assert [(mount["path"], mount["mode"]) for mount in mounts] == [
        (ROOT, "READWRITE"),
        (item.path, "READONLY"),
    ]


@pytest.mark.parametrize("name", ["a b.txt", "50%.txt", "a:b.txt", "ü.txt", "q'q.txt", "x" * 250])
def test_names_that_would_not_survive_the_broker_are_copied(
    here: Site, fake: FakeCalycopis, name: str
) -> None:
    source = here.shared / name
    source.write_text("copied\n")
    item = StagedFile(path=f"{ROOT}/in/0/{name}", url=source.as_uri())
    assert here.run(here.plan("cat", item.path, stdout="copy.txt", staged=[item])).exit_code == 0
    assert here.output("copy.txt") == "copied\n"
    assert len(fake.requests[0]["data"]) == 1


def test_files_that_are_not_shared_and_those_of_the_working_directory_are_copied(
    here: Site, tmp_path: Path
) -> None:
    elsewhere, original = tmp_path / "elsewhere.txt", here.shared / "original"
    elsewhere.write_text("from elsewhere\n")
    original.mkdir()
    (original / "deep.txt").write_text("as it was\n")
    staged = [
        StagedFile(path=f"{ROOT}/in/0/e.txt", url=elsewhere.as_uri()),
        StagedFile(path=f"{OUT}/given.txt", url=elsewhere.as_uri()),
        StagedFile(path=f"{OUT}/mine", url=original.as_uri(), directory=True, mode=StageMode.COPY),
        StagedFile(path=f"{OUT}/script.sh", contents="echo scripted > mine/deep.txt\n"),
    ]
    outcome = here.run(here.shell(f"sh script.sh; cat {staged[0].path} given.txt > all.txt", staged=staged))
    assert outcome.exit_code == 0
    assert here.output("all.txt") == "from elsewhere\n" * 2
    assert here.output("mine/deep.txt") == "scripted\n"
    assert here.output("given.txt") == "from elsewhere\n"
    assert (original / "deep.txt").read_text() == "as it was\n"


def test_a_file_that_is_gone_is_named(here: Site, fake: FakeCalycopis) -> None:
    item = StagedFile(path=f"{ROOT}/in/0/a.txt", url=(here.shared / "gone.txt").as_uri())
    outcome = here.run(here.plan("cat", item.path, staged=[item]))
    assert "No such file or directory" in str(outcome.problem)
    assert "gone.txt" in str(outcome.problem)
    assert not fake.containers
    assert not (here.task / "sessions").exists()


@pytest.mark.parametrize("path", [f"{ROOT}/in/0/table.csv", f"{OUT}/table.csv"])
def test_the_broker_fetches_from_the_web_and_the_file_keeps_its_name(
    here: Site, site: str, fake: FakeCalycopis, path: str
) -> None:
    item = StagedFile(path=path, url=f"{site}/table.csv")
    outcome = here.run(here.plan("cat", path, stdout="copy.txt", staged=[item]))
    assert outcome.exit_code == 0
    assert here.output("copy.txt") == "1,2\n"
    assert fake.requests[0]["data"][1]["location"] == item.url
    assert (here.out / "table.csv").exists() == path.startswith(OUT)


def test_a_broker_that_puts_a_fetched_file_at_its_path_will_do(
    here: Site, site: str, fake: FakeCalycopis
) -> None:
    """The schema does not say whether it is there, or in a folder there, as ``content``."""
    fake.as_files = True
    item = StagedFile(path=f"{ROOT}/in/0/table.csv", url=f"{site}/table.csv")
    outcome = here.run(here.plan("cat", item.path, stdout="copy.txt", staged=[item]))
    assert outcome.exit_code == 0
    assert here.output("copy.txt") == "1,2\n"
    assert len(fake.requests) == 1


def test_an_input_that_came_too_late_is_asked_for_earlier_the_next_time(
    here: Site, site: str, fake: FakeCalycopis
) -> None:
    fake.tick, fake.download = 1.0, 1.5  # one of its minutes and a half
    item = StagedFile(path=f"{ROOT}/in/0/table.csv", url=f"{site}/table.csv")
    outcome = here.run(here.plan("cat", item.path, stdout="copy.txt", staged=[item]))
    assert outcome.exit_code == 0
    assert here.output("copy.txt") == "1,2\n"
    assert len(fake.requests) == 2


def test_an_input_that_cannot_be_fetched_is_named(here: Site, site: str) -> None:
    item = StagedFile(path=f"{ROOT}/in/0/none.csv", url=f"{site}/none.csv")
    outcome = here.run(here.plan("cat", item.path, staged=[item]))
    assert "its input-1 failed (it says: Download failed with exit code 8)" in str(outcome.problem)


# --- what it cannot do is said before it is asked ---


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"image": None}, "it runs only containers"),
        ({"image": "registry.example.org/" + "x" * 250}, "no names of more than 255 letters"),
        ({"staged": [StagedFile(path=f"{ROOT}/in/0/a", url="s3://bucket/a")]}, "only file and http(s) URLs"),
        (
            {"staged": [StagedFile(path=f"{ROOT}/in/0/a", url="https://x.org/a/", directory=True)]},
            "only single files",
        ),
        (
            {"staged": [StagedFile(path=f"{OUT}/a", url="file:///etc/hosts", mode=StageMode.INPLACE)]},
            "change file:///etc/hosts in place",
        ),
        ({"staged": [StagedFile(path="/opt/settings", contents="x")]}, "outside the step's own folders"),
    ],
)
def test_what_it_cannot_do_is_a_reason(
    here: Site, fake: FakeCalycopis, wanted: dict[str, Any], said: str
) -> None:
    outcome = here.run(here.plan("true", **wanted), patience=60.0)
    assert said in str(outcome.problem)
    assert not fake.requests
    assert not here.task.exists()


def test_a_workspace_that_is_not_shared_is_a_reason(here: Site, tmp_path: Path) -> None:
    here.dialect = Reference(Shared({tmp_path / "other": PurePosixPath("/other")}))
    assert "must be in a folder that is shared" in str(here.run(here.plan("true")).problem)


def test_a_default_image_serves_tools_without_one(here: Site, fake: FakeCalycopis) -> None:
    here.dialect = here.reference(default_image=Image(locations=["debian:stable-slim"], digest=""))
    assert here.run(here.plan("true", image=None)).exit_code == 0
    assert fake.requests[0]["executable"]["image"] == {"locations": ["debian:stable-slim"], "digest": ""}


def test_a_hinted_image_is_waited_for_and_not_replaced(here: Site, fake: FakeCalycopis) -> None:
    """While all places are taken nobody offers anything, as when nobody can run the image."""
    here.dialect = here.reference(at_once=1, default_image=Image(locations=["other"], digest=""))
    plans = [here.plan("true", name=f"step-{number}") for number in range(3)]
    outcomes = asyncio.run(here.place(plans))
    assert [outcome.exit_code for outcome in outcomes] == [0] * 3
    images = [request["executable"]["image"]["locations"] for request in fake.requests]
    assert images == [["alpine:latest"]] * 3


def test_images_and_limits_are_the_brokers_own(here: Site) -> None:
    digest = "sha256:" + "7" * 64
    config = BrokerConfig.model_validate(
        {
            "name": "java",
            "url": here.fake.url,
            "dialect": "reference",
            "shared": {here.shared: here.shared},
            "images": {"alpine:latest": {"locations": ["mirror/alpine"], "digest": digest}, "base": "b:1"},
        }
    )
    plan = here.plan("true", wish=Wish(max_costs={"urn:money": 3.0}))

    async def render(image: str | None) -> ExecutionRequest:
        async with http_session() as http:
            return Requests(plan, image).for_broker(make_broker(config, http, default_image="base"))

    named, unnamed = asyncio.run(render("alpine:latest")), asyncio.run(render(None))
    assert named.executable
    assert unnamed.executable
    assert named.executable.image == Image(locations=["mirror/alpine"], digest=digest)
    assert unnamed.executable.image == Image(locations=["b:1"], digest="")
    assert [cost.max for cost in named.costs or []] == [3.0]


def test_native_brokers_get_one_and_the_same_request(here: Site) -> None:
    requests = Requests(here.plan("true"), "alpine:latest")

    async def render() -> list[ExecutionRequest]:
        async with http_session() as http:
            return [requests.for_broker(Broker(f"node{n}", "http://x.org", http)) for n in range(2)]

    first, second = asyncio.run(render())
    assert first is second


def test_what_is_asked_for(here: Site, fake: FakeCalycopis) -> None:
    resources = Resources(cores_min=2.5, memory_min=3 * 2**30 + 1, scratch_min=2**30, cores_max=4)
    plan = here.plan("true", resources=resources, time_limit=9000)
    here.run(replace(plan, name="n" * 300))
    request = fake.requests[0]
    assert request["compute"]["cores"] == {"min": 3}
    assert request["compute"]["memory"] == {"min": 4}
    assert "storage" not in request
    assert request["schedule"] == {"requested": {"duration": "PT2H"}}
    assert all(len(word) <= 255 for word in request["executable"]["command"])
    notes = " ".join(here.seen[0].placement.notes)
    assert "scratch" in notes
    assert "upper limits" in notes
    assert "2 hours" in notes


# --- ends ---


def test_a_time_limit_is_kept_by_us(here: Site) -> None:
    outcome = here.run(here.plan("sleep", "300", time_limit=1))
    assert outcome.by_command
    assert "time limit of 1 s" in str(outcome.problem)


def test_an_image_without_a_shell_is_said(here: Site, fake: FakeCalycopis) -> None:
    fake.no_shell.add("distroless")
    outcome = here.run(here.plan("true", image="distroless"))
    assert "the image distroless has no sh" in str(outcome.problem)


def test_an_image_that_must_not_be_pulled_is_not_sent_there(here: Site, fake: FakeCalycopis) -> None:
    outcome = here.run(here.plan("true", image="mine:1", image_is_there=True))
    assert not fake.requests
    assert "it would pull mine:1" in str(outcome.problem)


def test_an_image_that_cannot_be_had_is_named_with_likely_causes(here: Site, fake: FakeCalycopis) -> None:
    fake.no_image.add("registry.example.org/astro/typo:1")
    outcome = here.run(here.plan("true", image="registry.example.org/astro/typo:1"))
    assert outcome.exit_code is None
    for words in ("cannot use the image registry.example.org/astro/typo:1", "misspelt", "login", "digest"):
        assert words in str(outcome.problem)


def test_cancelling_ends_the_command_although_the_broker_does_not(here: Site, fake: FakeCalycopis) -> None:
    said = here.task / "stdout"

    def has_begun() -> bool:  # the broker's RUNNING is said before
        return said.exists() and said.read_text() == "began\n"

    _cancelled_when(here, has_begun, here.shell("echo began; exec sleep 300"))
    until(lambda: fake.containers)  # the container runs on
    assert not (here.task / "sessions").exists()


def test_cancelled_before_its_container_starts_the_command_never_runs(
    here: Site, fake: FakeCalycopis, tmp_path: Path
) -> None:
    fake.tick = 3.0
    ran = tmp_path / "ran"

    def is_accepted() -> bool:  # before, it would be given up, and no container would start
        return any(seen.session is not None and seen.session.phase is not Phase.OFFERED for seen in here.seen)

    _cancelled_when(here, is_accepted, here.shell(f"echo yes > {ran}"))
    until(lambda: fake.containers)
    assert [code for _, code in fake.containers] == [0]
    assert not ran.exists()


def _cancelled_when(here: Site, moment: Callable[[], bool], plan: StepPlan) -> None:
    """Run a step and cancel it at that moment."""

    async def run() -> None:
        step = asyncio.create_task(here.place([plan]))
        async with asyncio.timeout(60):
            while not moment():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    asyncio.run(run())


def test_no_more_sessions_than_may_be(here: Site, fake: FakeCalycopis) -> None:
    here.dialect = here.reference(at_once=2)
    plans = [here.shell("sleep 0.3; echo x > x.txt", name=f"step-{number}") for number in range(6)]
    outcomes = asyncio.run(here.place(plans, patience=1.0))
    assert [outcome.exit_code for outcome in outcomes] == [0] * 6
    assert fake.most <= 3  # one whose end we know already may still be ending


def test_a_link_in_place_of_the_outputs_is_not_followed(here: Site) -> None:
    outcome = here.run(here.shell(f"cd /; rm -rf {OUT}; ln -s /etc {OUT}"))
    assert "replaced its working directory by a link" in str(outcome.problem)
    assert not (here.task / "out").exists()


def test_a_link_in_place_of_a_stream_is_not_followed(here: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    mine = f"{ROOT}/.bridge/stdout"
    here.run(here.shell(f"echo before; rm {mine}; ln -s {tmp_path}/secret {mine}"))
    assert (here.task / "stdout").read_text() == "before\n"


@pytest.mark.parametrize(
    "location", ["other/sessions/x/fs", "run/tasks/step/sessions/../../../x/sessions/y/fs"]
)
def test_a_session_that_names_another_folder_is_not_believed(here: Site, location: str) -> None:
    plan = here.plan("true")
    request = here.dialect.render(plan, IMAGE)
    assert request.data
    request.data[0].location = (here.shared / location).as_uri()
    lying = Session(data=request.data)
    outcome = asyncio.run(here.dialect.outcome(plan, lying))
    assert outcome == "its session does not name the folder that was asked for"
    asyncio.run(here.dialect.stop(lying))


def test_it_is_found_again_by_the_session_alone(here: Site) -> None:
    """After a restart of ours, another object reads the folder that the session names."""
    plan = here.shell("echo x > x.txt")

    async def run() -> StepOutcome | str:
        async with http_session() as http:
            broker = Broker("java", here.fake.url, http, dialect=here.dialect)
            answer = await broker.request_offers(here.dialect.render(plan, IMAGE), 20)
            assert answer.offers
            offer = answer.offers[0]
            await here.dialect.prepare(plan, offer)
            session, etag = await broker.accept(str(offer.meta.url), 20, 0)
            assert etag is None
            again = here.reference()
            async with asyncio.timeout(60):
                while not await again.ended(plan, session):  # noqa: ASYNC110  # a file is waited for
                    await asyncio.sleep(0.05)
            return await again.outcome(plan, session)

    assert asyncio.run(run()) == StepOutcome(exit_code=0)
    assert here.output("x.txt") == "x\n"


class DiedError(Exception):
    """What a test's engine dies of."""


class Engines:
    """A step that is lived by one engine after another; each dies when its test says so."""

    def __init__(self, here: Site, plan: StepPlan) -> None:
        self.here = here
        self.plan = plan
        self.journalled: dict[str, Any] | None = None

    async def live(self, dies: Callable[[Progress], bool], dialect: Reference | None = None) -> StepOutcome:
        """Run the step, or take it up; what is reported is journalled first.

        Raises:
            DiedError: it did.
        """
        left = asyncio.Event()

        async def report(progress: Progress) -> None:
            self.journalled = json.loads(json.dumps(progress.placement.to_json()))
            if dies(progress):
                left.set()
                await asyncio.Event().wait()

        async with http_session() as http:
            broker = Broker("java", self.here.fake.url, http, dialect=dialect or self.here.reference())
            federation = Federation([broker], deadline=20.0, patience=0.0)
            step = asyncio.create_task(federation.run(self.plan, report, self.journalled, left.is_set))
            death = asyncio.create_task(left.wait())
            async with asyncio.timeout(60):
                await asyncio.wait({step, death}, return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            if not step.done():
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
                raise DiedError
            await federation.close()
            return step.result()


def never(_progress: Progress) -> bool:
    return False


def is_running(progress: Progress) -> bool:
    compute = progress.session.compute if progress.session else None
    return compute is not None and str(compute.phase) == "RUNNING"


def test_a_running_session_is_taken_up_by_another_engine(here: Site, fake: FakeCalycopis) -> None:
    gate = here.shared / "gate"
    engines = Engines(here, here.shell(f"while [ ! -e {gate} ]; do sleep 0.1; done; echo x > x.txt; exit 4"))

    async def run() -> StepOutcome:
        with pytest.raises(DiedError):
            await engines.live(is_running)
        gate.touch()
        return await engines.live(never)

    assert asyncio.run(run()).exit_code == 4
    assert here.output("x.txt") == "x\n"
    assert len(fake.requests) == len(fake.containers) == 1
    assert engines.journalled
    assert engines.journalled["notes"], "they are still shown"


def test_a_session_that_ended_meanwhile_is_taken_up(here: Site, fake: FakeCalycopis) -> None:
    engines = Engines(here, here.shell("sleep 0.5; echo x > x.txt"))

    async def run() -> StepOutcome:
        with pytest.raises(DiedError):
            await engines.live(is_running)
        async with asyncio.timeout(60):
            while not fake.containers:  # noqa: ASYNC110  # another thread's
                await asyncio.sleep(0.05)
        return await engines.live(never)

    assert asyncio.run(run()).exit_code == 0
    assert here.output("x.txt") == "x\n"
    assert len(fake.requests) == len(fake.containers) == 1


def test_an_offer_about_to_be_accepted_is_accepted_by_the_next_engine(
    here: Site, fake: FakeCalycopis
) -> None:
    """Also when the first died over making the folder."""
    engines = Engines(here, here.shell("echo x > x.txt"))

    async def run() -> StepOutcome:
        with pytest.raises(DiedError):
            await engines.live(lambda progress: progress.session is not None)
        (request,) = fake.requests
        half = Path(request["data"][0]["location"].removeprefix("file://"))
        (half / ".bridge").mkdir(parents=True)
        return await engines.live(never)

    assert asyncio.run(run()).exit_code == 0
    assert here.output("x.txt") == "x\n"
    assert len(fake.requests) == len(fake.containers) == 1


def test_an_outcome_that_was_not_stored_is_read_again(here: Site, fake: FakeCalycopis) -> None:
    """An engine may die after it has taken the outputs over and before it has said so."""
    engines = Engines(here, here.shell("echo x > x.txt; exit 5"))

    async def run() -> list[StepOutcome]:
        return [await engines.live(never), await engines.live(never)]

    first, second = asyncio.run(run())
    assert first == second
    assert first.exit_code == 5
    assert here.output("x.txt") == "x\n"
    assert len(fake.requests) == len(fake.containers) == 1


def test_outputs_taken_over_by_an_engine_that_died_over_it_are_not_lost(here: Site) -> None:
    engines = Engines(here, here.shell("echo x > x.txt"))

    class Dying(Reference):
        def _outcome(self, *args: Any) -> StepOutcome | str:
            super()._outcome(*args)
            raise DiedError

    async def run() -> StepOutcome:
        with pytest.raises(DiedError):
            await engines.live(never, Dying(Shared({here.shared: PurePosixPath(here.shared)})))
        return await engines.live(never)

    assert asyncio.run(run()).exit_code == 0
    assert here.output("x.txt") == "x\n"


def test_a_session_taken_up_takes_a_place(here: Site) -> None:
    gate, only, full = here.shared / "gate", here.reference(at_once=1), []
    engines = Engines(here, here.shell(f"while [ ! -e {gate} ]; do sleep 0.1; done"))
    other = here.plan("true", name="other")

    def look(_progress: Progress) -> bool:
        with pytest.raises(BusyError):
            only.render(other, IMAGE)
        full.append(True)
        gate.touch()
        return False

    async def run() -> StepOutcome:
        with pytest.raises(DiedError):
            await engines.live(is_running)
        return await engines.live(look, only)

    assert asyncio.run(run()).exit_code == 0
    assert full
    assert only.render(other, IMAGE), "its place is free again"


# --- the script ---

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=25, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=5), value=WORDS)
def test_words_and_variables_reach_the_command_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], value: str
) -> None:
    folder = tmp_path_factory.mktemp("it's a")
    what = Wrapped(
        argv=["sh", "-c", 'printf "%s\\0" "$@"; printf "%s\\0" "$A"', "sh", *words],
        environment={"A": value},
        workdir=str(folder),
        notes=str(folder),
        stdin=None,
        stdout=str(folder / "out"),
        stderr=str(folder / "err"),
    )
    (folder / "run").write_text(script(what))
    assert subprocess.run(["sh", str(folder / "run")], check=False).returncode == 0
    assert (folder / "exit").read_text() == "exit 0\n"
    said = (folder / "out").read_bytes().split(b"\0")
    assert said == [*(word.encode() for word in [*words, value]), b""]


def wrapped(folder: Path, argv: list[str], environment: dict[str, str]) -> str:
    """Run a command in the script; returns the script's last line."""
    here = str(folder)
    out, err = f"{here}/out", f"{here}/err"
    (folder / "run").write_text(script(Wrapped(argv, environment, here, here, None, out, err)))
    subprocess.run(["sh", str(folder / "run")], check=True)
    return (folder / "exit").read_text()


def test_the_script_leaves_nothing_running(tmp_path: Path) -> None:
    wrapped(tmp_path, ["true"], {})
    until = time.monotonic() + 60
    while any(str(tmp_path / "run") in line for line in command_lines()):
        assert time.monotonic() < until, "something of the script is still there"
        time.sleep(0.1)


def command_lines() -> list[str]:
    """Of all processes."""
    return [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]


def test_builtins_of_the_shell_do_not_stand_for_commands(tmp_path: Path) -> None:
    assert wrapped(tmp_path, ["exit", "0"], {}) == "exit 127\n"


def test_variables_that_a_shell_cannot_name_are_set(tmp_path: Path) -> None:
    assert wrapped(tmp_path, ["env"], {"not.a.name": "it's odd", "A": "1"}) == "exit 0\n"
    assert {"not.a.name=it's odd", "A=1"} <= set((tmp_path / "out").read_text().splitlines())


# --- configuration ---


def test_the_reference_dialect_needs_a_shared_folder() -> None:
    broker = {"name": "java", "url": "http://x.org", "dialect": "reference"}
    with pytest.raises(ValidationError, match="needs shared"):
        ServiceConfig.model_validate({"brokers": [broker]})


def test_the_workspace_must_be_in_it(tmp_path: Path) -> None:
    broker = {"name": "java", "url": "http://x.org", "dialect": "reference", "shared": {"/data": "/data"}}
    with pytest.raises(ValidationError, match="none of its shared folders"):
        ServiceConfig.model_validate({"workspace": tmp_path, "brokers": [broker]})
    with pytest.raises(ValidationError, match="absolute"):
        BrokerConfig.model_validate(broker | {"shared": {"/data": "data"}})


def test_dialects_are_chosen_by_configuration() -> None:
    broker = {"name": "java", "url": "http://x.org", "shared": {"/data": "/srv"}}
    assert dialect_of(BrokerConfig.model_validate(broker), None) is NATIVE
    chosen = dialect_of(BrokerConfig.model_validate(broker | {"dialect": "reference"}), None)
    assert isinstance(chosen, Reference)


def test_a_listing_cannot_share_folders(here: Site) -> None:
    listed = parse_listing(
        b"brokers: [{name: java, url: 'http://x.org', dialect: reference, shared: {/: /}}]", "here"
    ).brokers[0]
    with pytest.raises(CannotAskError, match="must be in the configuration"):
        dialect_of(listed).render(here.plan("true"), IMAGE)
