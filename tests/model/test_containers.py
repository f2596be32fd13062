"""Whether commands run in the images that tools name: what the site and the run say together."""

from __future__ import annotations

import pytest

from wes_bridge.model.containers import CONTAINERS, Containers, ContainersError, read_containers, settled
from wes_bridge.model.run_options import OptionsError, RunOptions, run_options


def test_it_is_read() -> None:
    assert [read_containers(text) for text in ("required", " Never ", "")] == ["required", "never", None]
    assert run_options({"containers": "preferred"}) == RunOptions(containers="preferred")
    with pytest.raises(OptionsError, match=r"^containers: 'sometimes' is none of required, "):
        run_options({"containers": "sometimes"})


@pytest.mark.parametrize("run", [None, *CONTAINERS])
def test_a_run_chooses_where_its_site_leaves_it_the_choice(run: Containers | None) -> None:
    assert settled("preferred", run) == (run or "preferred")


@pytest.mark.parametrize("site", ["required", "never"])
@pytest.mark.parametrize("run", [None, *CONTAINERS])
def test_a_sites_rule_holds_for_all_runs(site: Containers, run: Containers | None) -> None:
    if run in (None, site):
        assert settled(site, run) == site
        return
    with pytest.raises(ContainersError, match=f"lays down '{site}'.*engine.containers.*ask the site"):
        settled(site, run)
