"""One step as a request to each broker: in its dialect, with its names of images and the user's limits.

For brokers of the native dialect it is rendered once; where an image has another name, that is put into a
shallow copy. Every other broker has a dialect, and so a request, of its own.
"""

from __future__ import annotations

from wes_bridge.federation.client import Broker
from wes_bridge.federation.dialect import NATIVE
from wes_bridge.model.execution_broker import (
    MINMAX_COST,
    MINMAX_METRIC,
    CostOrMetric,
    ExecutionRequest,
    Image,
)
from wes_bridge.model.preferences import Wish
from wes_bridge.model.step_plan import StepPlan


class Requests:
    """The requests for one step.

    Args:
        plan: the step.
        image: its container image as the workflow names it; None for a plain process.
    """

    def __init__(self, plan: StepPlan, image: str | None) -> None:
        self._plan = plan
        self._name = image
        self._image = image_called(image, plan) if image else None
        self._native: ExecutionRequest | None = None

    def for_broker(self, broker: Broker, arranged: StepPlan | None = None) -> ExecutionRequest:
        """The request for a broker.

        Args:
            broker: who is asked.
            arranged: the step as the broker's dialect has arranged it; None: nothing need be.

        Raises:
            BusyError: it should be asked later.
            CannotAskError: it cannot run the step.
        """
        mapped = broker.profile.images.get(self._name) if self._name else None
        if broker.dialect is not NATIVE:
            request = broker.dialect.render(arranged or self._plan, mapped or self._image)
            _add_limits(request, self._plan.wish)
            return request
        if self._native is None:
            self._native = NATIVE.render(self._plan, self._image)
            _add_limits(self._native, self._plan.wish)
        if mapped is None or self._native.executable is None:
            return self._native
        executable = self._native.executable.model_copy(update={"image": mapped})
        return self._native.model_copy(update={"executable": executable})


def image_called(name: str, plan: StepPlan) -> Image:
    """An image by the name that a workflow has for it."""
    return Image(locations=[name], digest="", pull=False if plan.image_is_there else None)


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
