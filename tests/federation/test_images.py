"""What becomes of a step whose image cannot be had: it is never left out where some node could have it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.federation.conftest import place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.federation.profile import Profile
from wes_bridge.model.execution_broker import DOCKER_CONTAINER
from wes_bridge.model.preferences import Wish

NO_ENGINE = {
    "kind": "uri:unknown-type",
    "level": "ERROR",
    "message": "this node runs no containers: podman or docker is not installed here",
    "values": {"kind": DOCKER_CONTAINER},
}
NO_IMAGE = {
    "kind": "urn:image-unavailable",
    "level": "ERROR",
    "message": "image astron/nosuch:1.0 is not here, and pulling it failed: manifest unknown",
}
IMAGE = "astron/nosuch:1.0"


def images(broker: FakeBroker) -> list[bool]:
    """Of each request for offers, whether it asked for a container."""
    return [request["executable"].get("image") is not None for request in broker.requests]


def test_a_hint_is_left_out_where_no_node_has_an_engine_and_that_is_told(
    alpha: FakeBroker, beta: FakeBroker
) -> None:
    alpha.refuse_containers = beta.refuse_containers = [NO_ENGINE]
    outcome, seen = place(alpha, beta, image=IMAGE)
    assert outcome.exit_code == 0
    assert images(alpha) == images(beta) == [True, False]
    words = str(seen[-1].placement.to_json()["without_image"])
    assert IMAGE in words
    assert "no node that could run it has a container engine" in words


def test_an_image_that_cannot_be_pulled_fails_the_step_with_the_engines_words(alpha: FakeBroker) -> None:
    alpha.refuse_containers = [NO_IMAGE]
    outcome, _ = place(alpha, image=IMAGE)
    assert outcome.exit_code is None
    assert images(alpha) == [True]
    assert "pulling it failed: manifest unknown" in str(outcome.problem)
    assert "containers: never" in str(outcome.problem), "what to do about it is said"


def test_one_node_with_an_engine_is_enough(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.refuse_containers, beta.refuse_containers = [NO_ENGINE], [NO_IMAGE]
    outcome, _ = place(alpha, beta, image=IMAGE)
    assert outcome.exit_code is None
    assert images(alpha) == [True]


def test_behind_an_aggregator_too(alpha: FakeBroker) -> None:
    alpha.refuse_containers = [NO_ENGINE, NO_IMAGE]
    assert place(alpha, image=IMAGE)[0].exit_code is None
    alpha.refuse_containers = [NO_ENGINE, NO_ENGINE]
    assert place(alpha, image=IMAGE)[0].exit_code == 0


@pytest.fixture
def nobody() -> Iterator[Any]:
    """A broker whose port is closed."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield type("Nobody", (), {"url": f"http://127.0.0.1:{held.getsockname()[1]}"})()


def test_a_node_that_is_silent_may_have_an_engine(alpha: FakeBroker, nobody: Any) -> None:
    alpha.refuse_containers = [NO_ENGINE]
    outcome, _ = place(alpha, nobody, image=IMAGE)
    assert outcome.exit_code is None
    assert images(alpha) == [True]
    assert "containers: never" in str(outcome.problem)


def test_a_node_that_is_out_of_the_question_does_not_count(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.refuse_containers = [NO_ENGINE]
    assert place(alpha, beta, image=IMAGE, wish=Wish(never=("node1",)))[0].exit_code == 0
    elsewhere = {1: Profile(data=("https://data.example.org/",))}
    assert place(alpha, beta, image=IMAGE, profiles=elsewhere)[0].exit_code == 0
    other_images = {1: Profile(registries=("registry.example.org/",))}
    assert place(alpha, beta, image=IMAGE, profiles=other_images)[0].exit_code is None


def test_a_required_image_is_never_left_out(alpha: FakeBroker) -> None:
    alpha.refuse_containers = [NO_ENGINE]
    outcome, _ = place(alpha, image=IMAGE, image_required=True)
    assert images(alpha) == [True]
    assert outcome.unsupported
    assert "this node runs no containers: podman or docker is not installed here" in str(outcome.problem)
    assert "http" not in str(outcome.problem)


def test_an_image_left_out_by_choice_is_told(alpha: FakeBroker) -> None:
    outcome, seen = place(alpha, containers="never", left_out=IMAGE)
    assert outcome.exit_code == 0
    words = str(seen[-1].placement.without_image)
    assert IMAGE in words
    assert "never" in words
