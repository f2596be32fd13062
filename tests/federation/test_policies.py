"""Every policy orders offers totally, whatever order they come in, and never beyond the limits."""

import itertools
import math
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wes_bridge.federation.choosing import Candidate, choose
from wes_bridge.federation.client import Broker
from wes_bridge.federation.figures import Figures, Span, figures_of
from wes_bridge.federation.limits import over_limit
from wes_bridge.federation.policies import registry
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.preferences import Preferences, Wish, combine
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY, COST_MONETARY, METRIC_COMPUTE, METRIC_IO

NOW = datetime(2026, 6, 1, tzinfo=UTC)
COSTS, METRICS = (COST_MONETARY, COST_ENERGY, COST_CARBON), (METRIC_COMPUTE, METRIC_IO)
POLICIES = sorted(registry.IN_TREE)

NUMBERS = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0, 1.0, 2.0])
)
INSTANTS = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "soon", "1970-01-01T00:00:00Z"]
    ),
    st.integers(-100_000, 10**8).map(lambda s: (NOW + timedelta(seconds=s)).isoformat()),
    st.text(max_size=5),
)
DURATIONS = st.one_of(
    st.none(),
    st.sampled_from(["PT1H", "PT0S", "-PT5S", "P99999999999D", "P1Y", "PT1H"]),
    st.integers(0, 10**6).map(lambda s: f"PT{s}S"),
    st.text(max_size=5),
)


def items(kinds: tuple[str, ...]) -> st.SearchStrategy[list[dict[str, Any]] | None]:
    one = st.fixed_dictionaries(
        {"kind": st.just("x"), "type": st.sampled_from(kinds), "min": NUMBERS, "max": NUMBERS}
    )
    return st.one_of(st.none(), st.lists(one, max_size=4))


@st.composite
def offers(draw: st.DrawFn) -> Session:
    """An offer whose figures may be missing, absurd, or contradict each other."""
    start = draw(INSTANTS)
    schedule = {
        "available": {"start": None if start is None else f"{start}/PT0S", "duration": draw(DURATIONS)},
        "preparing": draw(
            st.one_of(st.none(), st.fixed_dictionaries({"start": INSTANTS, "duration": DURATIONS}))
        ),
        "releasing": draw(
            st.one_of(st.none(), st.fixed_dictionaries({"start": INSTANTS, "duration": DURATIONS}))
        ),
    }
    data = [{"schedule": {"preparing": {"start": "1970-01-01T00:00:00Z", "duration": draw(DURATIONS)}}}]
    return Session.model_validate(
        {
            "phase": "OFFERED",
            "schedule": draw(st.sampled_from([None, schedule])),
            "costs": draw(items(COSTS)),
            "metrics": draw(items(METRICS)),
            "data": data,
        }
    )


def candidate(number: int, offer: Session, moved: int = 0) -> Candidate:
    name = f"node{number}"
    broker = cast(Broker, type("Named", (), {"name": name}))
    figures = figures_of(offer, NOW)
    return Candidate(broker, offer, f"http://{name}/1", figures)


WISHES = st.builds(
    Wish,
    policy=st.sampled_from(POLICIES),
    weights=st.dictionaries(
        st.sampled_from(["time", "cost", "energy", "carbon", "performance", "throughput", "data"]),
        st.floats(1e-300, 1e300),
        max_size=4,
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(offers(), min_size=1, max_size=6), WISHES, st.data())
def test_the_order_is_total_and_does_not_depend_on_who_answers_first(
    made: list[Session], wish: Wish, data: st.DataObject
) -> None:
    candidates = [candidate(number, offer) for number, offer in enumerate(made)]
    set_back = data.draw(st.dictionaries(st.sampled_from(["node0", "node1"]), st.integers(1, 3)))
    ranked = choose(candidates, wish, "step", set_back).ranked
    assert {c.url for c in ranked} == {c.url for c in candidates}
    for shuffled in data.draw(st.lists(st.permutations(candidates), max_size=3)):
        again = choose(shuffled, wish, "step", set_back)
        assert [c.url for c in again.ranked] == [c.url for c in ranked]
        assert again.reason
    marks = [set_back.get(c.broker.name, 0) for c in ranked]
    assert marks == sorted(marks)


LIMITS = st.builds(
    Wish,
    policy=st.sampled_from(POLICIES),
    max_costs=st.dictionaries(st.sampled_from(COSTS), st.floats(0, 1e6), max_size=3),
    required=st.dictionaries(st.sampled_from(METRICS), st.floats(0, 1e6), max_size=2),
    before=st.one_of(st.none(), st.integers(0, 10**6).map(lambda s: NOW + timedelta(seconds=s))),
    within=st.one_of(st.none(), st.integers(1, 10**6).map(lambda s: timedelta(seconds=s))),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(offers(), min_size=1, max_size=6), LIMITS)
def test_no_choice_is_ever_over_a_limit(made: list[Session], wish: Wish) -> None:
    candidates = [candidate(number, offer) for number, offer in enumerate(made)]
    within = [c for c in candidates if over_limit(c.figures, wish, NOW, NOW) is None]
    for chosen in choose(within, wish, "step").ranked if within else []:
        for kind, limit in wish.max_costs.items():
            said = [item for item in chosen.offer.costs or [] if item.type == kind]
            assert said
            assert all(item.max is None or 0 <= item.max <= limit for item in said)
        for kind, floor in wish.required.items():
            said = [item for item in chosen.offer.metrics or [] if item.type == kind]
            assert any(item.min is not None and item.min >= floor for item in said)
        if wish.before or wish.within:
            assert chosen.figures.finish is not None
            assert wish.before is None or chosen.figures.finish <= (wish.before - NOW).total_seconds()


@settings(max_examples=100, deadline=None)
@given(offers())
def test_figures_are_numbers_or_not_known(offer: Session) -> None:
    figures = figures_of(offer, NOW)
    numbers = [figures.start, figures.finish, figures.duration, figures.releasing]
    numbers += [
        bound
        for span in (*figures.costs.values(), *figures.metrics.values())
        for bound in (span.least, span.most)
    ]
    for number in numbers:
        assert number is None or (math.isfinite(number) and number >= 0)


# ---- what each policy likes --------------------------------------------------------------------------


def quoted(
    finish: float = 100.0, cost: float | None = None, moved: int = 0, start: float = 0.0, **more: float
) -> Figures:
    kinds = {"energy": COST_ENERGY, "carbon": COST_CARBON}
    costs = {kinds[name]: Span(v, v) for name, v in more.items() if name in kinds}
    if cost is not None:
        costs[COST_MONETARY] = Span(cost, cost)
    metrics = {METRIC_COMPUTE: Span(more["speed"], more["speed"])} if "speed" in more else {}
    return Figures(start=start, duration=finish - start, costs=costs, metrics=metrics, moved=moved)


def best(policy: str, *offers: Figures, **wish: Any) -> int:
    broker = [cast(Broker, type("Named", (), {"name": f"node{n}"})) for n in range(len(offers))]
    made = [Candidate(broker[n], Session(), f"http://{n}", figures) for n, figures in enumerate(offers)]
    return int(choose(made, Wish(policy=policy, **wish), "step").ranked[0].broker.name.removeprefix("node"))


def test_what_each_policy_likes() -> None:
    fast_start = quoted(finish=500, start=0, cost=5, carbon=9, energy=1, speed=10, moved=10**9)
    soon_done = quoted(finish=50, start=40, cost=9, carbon=8, energy=2, speed=20, moved=10**6)
    cheap = quoted(finish=900, start=100, cost=0.1, carbon=20, energy=3, speed=1, moved=10**7)
    green = quoted(finish=800, start=100, cost=7, carbon=0.5, energy=0.1, speed=2, moved=10**7)
    quick = quoted(finish=700, start=100, cost=8, carbon=30, energy=5, speed=99, moved=10**7)
    near = quoted(finish=990, start=200, cost=8.5, carbon=31, energy=6, speed=3, moved=0)
    all_offers = (fast_start, soon_done, cheap, green, quick, near)
    liked = {policy: best(policy, *all_offers) for policy in POLICIES if policy != "balanced"}
    assert liked == {"earliest": 1, "cheapest": 2, "greenest": 3, "fastest": 4, "local": 5}
    for measure, number in {
        "time": 1,
        "cost": 2,
        "carbon": 3,
        "performance": 4,
        "data": 5,
        "energy": 3,
    }.items():
        assert best("balanced", *all_offers, weights={measure: 1.0}) == number


@pytest.mark.parametrize("policy", ["cheapest", "greenest", "fastest"])
def test_who_says_nothing_comes_last(policy: str) -> None:
    assert best(policy, quoted(finish=1), quoted(finish=9000, cost=1e9, carbon=1e9, speed=0)) == 1


def test_ties_go_to_who_is_done_first_then_to_the_cheaper() -> None:
    assert best("cheapest", quoted(finish=90, cost=1), quoted(finish=50, cost=1)) == 1
    assert best("earliest", quoted(cost=2), quoted(cost=1)) == 1


def test_a_scatter_spreads_over_equal_nodes() -> None:
    names = [cast(Broker, type("Named", (), {"name": f"node{n}"})) for n in range(3)]
    made = [Candidate(name, Session(), f"http://{name.name}", quoted()) for name in names]
    chosen = [choose(made, Wish(), f"measure[{n}]").ranked[0].broker.name for n in range(90)]
    assert all(20 <= chosen.count(name.name) <= 40 for name in names)


def test_a_plug_in_that_fails_is_told_and_does_not_stop_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def title(self, _wish: Wish) -> str:
            return "luckiest"

        def keys(self, offers: Any, _wish: Wish) -> Any:
            raise ZeroDivisionError("no luck")

        def words(self, _offer: Figures, _wish: Wish) -> str:
            return ""

    monkeypatch.setattr("wes_bridge.federation.choosing.load_policy", lambda _name: Broken())
    made = [candidate(n, Session()) for n in range(2)]
    assert (
        "the policy lucky failed (ZeroDivisionError: no luck)"
        in choose(made, Wish(policy="lucky"), "s").reason
    )


def test_in_tree_policies_are_entry_points_like_any_other() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"][registry.GROUP] == registry.IN_TREE
    for name in registry.IN_TREE:
        assert registry.load_policy(name).title(Wish())


# ---- levels ------------------------------------------------------------------------------------------


def test_the_more_specific_level_decides_and_limits_add_up() -> None:
    site = Preferences(policy="earliest", max_cost=5.0, never=("old",), required={"io-throughput": 10})
    run = Preferences(policy="cheapest", max_cost=9.0, only=("a", "b"), deadline="PT2H")
    step = Preferences(policy="greenest", max_cost=2.0, only=("b",), deadline="PT5H", retries=2)
    wish = combine([site, run, step])
    assert (wish.policy, wish.retries) == ("greenest", 2)
    assert wish.max_costs == {COST_MONETARY: 2.0}
    assert wish.only == (("a", "b"), ("b",))
    assert wish.never == ("old",)
    assert wish.within == timedelta(hours=2)
    assert wish.required == {METRIC_IO: 10}
    for levels in itertools.permutations([site, run, step]):
        assert combine(levels).max_costs == wish.max_costs
