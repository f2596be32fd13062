"""Which groups may look at a run that is submitted: as the site's rule and the run's ``share_with`` say."""

from __future__ import annotations

from collections.abc import Mapping

from wes_bridge.auth.principal import Principal
from wes_bridge.config import Sharing
from wes_bridge.model.run_options import SHARE_WITH
from wes_bridge.wes.errors import BadRequestError


def shared_with(parameters: Mapping[str, str], principal: Principal, rule: Sharing) -> tuple[str, ...]:
    """The groups.

    Args:
        parameters: the run's engine parameters.
        principal: who submits it: only with a group of their own can a run be shared.
        rule: the site's.

    Raises:
        BadRequestError: ``share_with`` names a group that is not the submitter's, or the site shares nothing.
    """
    wanted = [name for part in parameters.get(SHARE_WITH, "").split(",") if (name := part.strip())]
    if rule == "groups":
        wanted += sorted(principal.groups)
    elif wanted and rule == "none":
        raise BadRequestError(
            f"workflow_engine_parameters: {SHARE_WITH}: this site shares no runs (sharing: none):"
            " leave it out"
        )
    for name in wanted:
        if name not in principal.groups:
            own = ", ".join(sorted(principal.groups)[:20]) or "none"
            raise BadRequestError(
                f"workflow_engine_parameters: {SHARE_WITH}: you are not in the group {name[:80]!r};"
                f" yours: {own}"
            )
    return tuple(dict.fromkeys(wanted))
