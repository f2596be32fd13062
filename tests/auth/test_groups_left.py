"""A run goes on for who is in the groups that are let in; that is seen when its tokens are renewed."""

from __future__ import annotations

import pytest

from tests.auth.provider import Provider
from tests.auth.test_delegation import Site, issuer, site
from tests.waiting import until
from wes_bridge.model.access import AuthenticationConfig

__all__ = ["issuer", "site"]
pytestmark = pytest.mark.slow


def _lets_in(site: Site, issuer: Provider, group: str) -> None:
    """Have the worker know that only a group's members are let in."""
    access = {"oidc": [{"issuer": issuer.issuer, "audience": ["wes-bridge"], "groups": [group]}]}
    site.kill_worker()
    read = AuthenticationConfig.model_validate(access)
    site.config = site.config.model_copy(update={"authentication": read})
    site.start_worker()


def test_a_run_does_not_act_for_who_has_left_the_group(site: Site, issuer: Provider) -> None:
    _lets_in(site, issuer, "lofar")
    issuer.control(life="3", group="lofar")  # less than early: tokens are renewed before each use
    try:
        alice = issuer.login("alice")
        issuer.control(group="others")
        run_id = site.submit(alice, hand_over=True)
        until(lambda: site.state_of(alice, run_id) == "PAUSED")
        assert "in no group any more that this service lets in: lofar" in site.words(alice, run_id)
        issuer.control(group="lofar")
        back = issuer.login("alice")
        assert site.ask(back, "POST", f"/runs/{run_id}/authorise", hand_over=True).status_code == 200
        until(lambda: site.state_of(back, run_id) == "COMPLETE")
    finally:
        issuer.control(life="600", group="")
