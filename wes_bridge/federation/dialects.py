"""One step as a request to one broker: in its dialect, with its names of images, and the user's limits in it.

A request is rendered once per dialect; what differs between brokers is put into shallow copies.
"""

from __future__ import annotations

from collections.abc import Callable

from wes_bridge.federation.profile import Profile
from wes_bridge.federation.render import native_request
from wes_bridge.model.execution_broker import (
    MINMAX_COST,
    MINMAX_METRIC,
    CostOrMetric,
    ExecutionRequest,
    Image,
)
from wes_bridge.model.preferences import Wish
from wes_bridge.model.step_plan import StepPlan

Renderer = Callable[..., ExecutionRequest]
RENDERERS: dict[str, Renderer] = {"native": native_request, "reference": native_request}
"""By dialect: called with the plan, and ``image=`` its name in the workflow or None."""


class Requests:
    """The requests for one step.

    Args:
        plan: the step.
        image: its container image as the workflow names it; None for a plain process.
    """

    def __init__(self, plan: StepPlan, image: str | None) -> None:
        self._plan = plan
        self._image = image
        self._rendered: dict[str, ExecutionRequest] = {}

    def for_broker(self, profile: Profile) -> ExecutionRequest:
        """The request for a broker of this profile."""
        request = self._rendered.get(profile.dialect)
        if request is None:
            request = RENDERERS[profile.dialect](self._plan, image=self._image)
            _add_limits(request, self._plan.wish)
            self._rendered[profile.dialect] = request
        mapped = profile.images.get(self._image) if self._image else None
        if mapped is None or request.executable is None:
            return request
        return request.model_copy(
            update={"executable": request.executable.model_copy(update={"image": mapped})}
        )


def image_of(reference: str, digest: str | None = None) -> Image:
    """An image from how people write it: ``registry/name:tag`` or ``registry/name@sha256:...``."""
    _, _, in_name = reference.partition("@")
    return Image(locations=[reference], digest=digest or in_name)


def _add_limits(request: ExecutionRequest, wish: Wish) -> None:
    """Costs at most and metrics at least, as the schema has them; a broker may look at them or not."""
    if wish.max_costs:
        request.costs = [
            CostOrMetric(kind=MINMAX_COST, type=kind, max=limit) for kind, limit in wish.max_costs.items()
        ]
    if wish.required:
        request.metrics = [
            CostOrMetric(kind=MINMAX_METRIC, type=kind, min=least) for kind, least in wish.required.items()
        ]
