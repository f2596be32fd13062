"""Who is not asked, what is asked of whom, and the limits that make a NO."""

from pathlib import Path

import pytest

from tests.federation.conftest import place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.config import BrokerConfig
from wes_bridge.federation.brokers import profile_of
from wes_bridge.federation.dialect import NATIVE
from wes_bridge.federation.profile import Profile, to_move
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import COST_MONETARY, METRIC_COMPUTE
from wes_bridge.model.step_plan import StagedFile, StepPlan

DIGEST = "sha256:" + "ab" * 32


def traits(**more: object) -> Profile:
    return profile_of(BrokerConfig.model_validate({"name": "x", "url": "http://x", **more}))


def test_a_broker_that_cannot_see_the_data_is_not_asked(alpha: FakeBroker, beta: FakeBroker) -> None:
    far = traits(data=["https://", "file:///nonexistent"])
    staged = [StagedFile("/wb-1/in/0/cube.fits", "s3://sky/cube.fits")]
    outcome, seen = place(alpha, beta, profiles={0: far}, staged=staged)
    assert outcome.exit_code == 0
    assert alpha.requests == []
    assert seen[0].placement.asked[0]["reason"] == (
        "not asked: it cannot reach s3://sky/cube.fits (it reaches https://, file:///nonexistent)"
    )


def test_a_broker_without_the_image_is_not_asked(alpha: FakeBroker) -> None:
    outcome, _ = place(
        alpha, profiles={0: traits(registries=["harbor.site/"])}, image="vlbi-cwl", image_required=True
    )
    assert alpha.requests == []
    assert "it does not have the image vlbi-cwl (it has those of harbor.site/)" in str(outcome.problem)


@pytest.mark.parametrize(
    ("image", "locations", "digest"),
    [
        (f"harbor.site/vlbi@{DIGEST}", [f"harbor.site/vlbi@{DIGEST}"], DIGEST),
        ("harbor.site/vlbi:5", ["harbor.site/vlbi:5"], ""),
        ({"locations": ["a/vlbi", "b/vlbi"], "digest": DIGEST}, ["a/vlbi", "b/vlbi"], DIGEST),
    ],
)
def test_each_broker_is_asked_with_its_own_name_of_an_image(
    alpha: FakeBroker, beta: FakeBroker, image: object, locations: list[str], digest: str
) -> None:
    profile = traits(images={"vlbi-cwl": image}, registries=[])
    place(alpha, beta, profiles={0: profile}, image="vlbi-cwl", image_required=True)
    assert alpha.requests[0]["executable"]["image"] == {"locations": locations, "digest": digest}
    assert beta.requests[0]["executable"]["image"]["locations"] == ["vlbi-cwl"]


def test_only_and_never_by_name_and_by_label(alpha: FakeBroker, beta: FakeBroker) -> None:
    labelled = {0: traits(labels={"country": "uk"}), 1: traits(labels={"country": "nl"})}
    for wish in (
        Wish(only=(("country=nl",),)),
        Wish(never=("node0",)),
        Wish(only=(("node0", "node1"), ("node1",))),
    ):
        _, seen = place(alpha, beta, profiles=labelled, wish=wish)
        assert seen[0].placement.node == "node1"
        assert "not asked: the run asks" in seen[0].placement.asked[0]["reason"]
    assert alpha.requests == []
    outcome, _ = place(alpha, wish=Wish(only=(("nobody",),)))
    assert "the run asks only for nobody" in str(outcome.problem)


def test_limits_make_a_no_in_words_and_offers_are_given_back(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.costs = {COST_MONETARY: (1.0, 3.0)}
    wish = Wish(max_costs={COST_MONETARY: 2.0})
    outcome, _ = place(alpha, beta, wish=wish)
    assert "node0: it costs up to 3, over max_cost 2" in str(outcome.problem)
    assert "node1: it does not say what it costs at most (max_cost is 2)" in str(outcome.problem)
    assert (alpha.updates, beta.updates) == (["REJECTED"], ["REJECTED"])


def test_costs_and_metrics_are_in_the_request_as_the_schema_has_them(alpha: FakeBroker) -> None:
    wish = Wish(max_costs={COST_MONETARY: 2.0}, required={METRIC_COMPUTE: 100.0})
    outcome, _ = place(alpha, wish=wish)
    base = "https://www.purl.org/ivoa.net/Calycopis-openapi/schema/v1.0/kinds/"
    assert alpha.requests[0]["costs"] == [
        {"kind": base + "costs/simple-minmax-float-cost.yaml", "type": COST_MONETARY, "max": 2.0}
    ]
    assert alpha.requests[0]["metrics"] == [
        {"kind": base + "metrics/simple-minmax-float-metric.yaml", "type": METRIC_COMPUTE, "min": 100.0}
    ]
    assert "costs" not in str(outcome.problem) or "max_cost" in str(outcome.problem)


def test_bytes_to_move() -> None:
    staged = [
        StagedFile("/a", "file:///data/a", size=100),
        StagedFile("/b", "s3://far/b", size=20),
        StagedFile("/c", "s3://far/c"),
        StagedFile("/d", contents="literal"),
    ]
    plan = StepPlan("x", [], {}, "/", "/", "file:///o", staged=staged)
    assert to_move(traits(holds=["file:///data/"]), plan, NATIVE.holds) == (20, 1)
    assert to_move(traits(), plan, NATIVE.holds) == (120, 1)


def test_credentials_go_to_their_broker_only(
    alpha: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio  # noqa: PLC0415

    from wes_bridge.federation.brokers import make_broker  # noqa: PLC0415
    from wes_bridge.federation.client import BrokerError, http_session  # noqa: PLC0415
    from wes_bridge.model.execution_broker import ExecutionRequest  # noqa: PLC0415

    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("ALPHA_TOKEN", "from-env")
    ways = [
        ({"env": "ALPHA_TOKEN"}, "Bearer from-env"),
        ({"file": str(tmp_path / "token")}, "Bearer from-file"),
        ({"env": "ALPHA_TOKEN", "username": "me"}, "Basic bWU6ZnJvbS1lbnY="),
    ]

    async def ask(credentials: dict[str, str]) -> None:
        async with http_session() as http:
            config = BrokerConfig.model_validate(
                {"name": "alpha", "url": alpha.url, "credentials": credentials}
            )
            broker = make_broker(config, http, config.credentials)
            await broker.request_offers(ExecutionRequest(), 5.0)

    for credentials, header in ways:
        asyncio.run(ask(credentials))
        assert alpha.headers[-1]["authorization"] == header
    with pytest.raises(BrokerError, match="the variable NO_SUCH holds no secret"):
        asyncio.run(ask({"env": "NO_SUCH"}))
