"""Which commands can have met, so that one may hold open what another one leaves."""

from __future__ import annotations

from pathlib import Path

from wes_bridge.node.company import Company, Reach

SHARED, OTHER = Path("/data/shared"), Path("/data/other")
WRITES = Reach(sees=[SHARED], changes=[SHARED])
SEES = Reach(sees=[SHARED / "below"])
ALONE = Reach(sees=[OTHER])
ONLINE = Reach(network=True)


def _company(*reaches: Reach) -> Company:
    company = Company()
    for number, reach in enumerate(reaches):
        company.began(str(number), reach)
    return company


def test_commands_that_share_nothing_meet_nobody() -> None:
    company = _company(ALONE, Reach(), SEES, SEES)
    assert [company.ended(str(number)) for number in range(4)] == [False] * 4


def test_a_folder_that_one_changes_and_others_see() -> None:
    for reaches in ((WRITES, SEES, ALONE), (SEES, WRITES, ALONE)):
        company = _company(*reaches)
        assert not company.ended("2")
        assert company.ended("0")
        assert not company.ended("1")  # it is alone now


def test_who_sees_a_folder_around_it_or_all_of_the_machine() -> None:
    for sees in ("/data", "/"):
        assert _company(WRITES, Reach(sees=[Path(sees)])).ended("0")
    assert not _company(WRITES, Reach(sees=[Path("/data/shared-not")])).ended("0")


def test_a_network_that_is_shared() -> None:
    company = _company(ONLINE, ONLINE, ALONE)
    assert company.ended("0")
    assert not company.ended("1")


def test_a_socket_that_was_handed_on() -> None:
    """Nobody who changes the folder is left, but one who may have their socket."""
    company = _company(WRITES, Reach(sees=[SHARED], network=True))
    company.ended("0")
    company.began("late", SEES)
    assert company.ended("late")
    company.began("online", ONLINE)
    company.ended("1")
    company.began("later", SEES)
    assert company.ended("later")
    company.ended("online")
    company.began("last", SEES)
    assert not company.ended("last")


def test_what_an_earlier_process_of_the_node_began_may_have_met_anybody() -> None:
    company = _company(ALONE)
    company.began("before", Reach(), known=False)
    assert company.ended("before")
    assert not company.ended("0")
