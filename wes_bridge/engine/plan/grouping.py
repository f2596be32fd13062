"""Elements that would ask for the same, gathered: a scatter of 1,000 asks once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from wes_bridge.cwl.expanding.expand import Element
from wes_bridge.federation.client import Broker
from wes_bridge.federation.profile import to_move, unfit
from wes_bridge.model.run_plan import Moved
from wes_bridge.model.step_plan import StepPlan


@dataclass
class Group:
    """Elements of one step whose requests have the same shape.

    Attributes:
        elements: at least one.
        plan: of the one that reads most, which stands for all; None when they would fail.
    """

    elements: list[Element]

    @property
    def first(self) -> Element:
        """The first element."""
        return self.elements[0]

    @property
    def plan(self) -> StepPlan | None:
        """See the class."""
        plans = [element.plan for element in self.elements if element.plan is not None]
        return max(plans, key=_size, default=None)

    def reads(self) -> Moved:
        """Known inputs of all elements."""
        return _summed(_read(element.plan) for element in self.elements if element.plan)

    def to_move(self, broker: Broker) -> Moved:
        """What all elements together would bring to a node."""
        found = [
            to_move(broker.profile, element.plan, broker.dialect.holds)
            for element in self.elements
            if element.plan
        ]
        return Moved(bytes=sum(moved for moved, _ in found), unknown=sum(count for _, count in found))


def grouped(elements: Iterable[Element], brokers: Sequence[Broker]) -> list[Group]:
    """Groups in the order of their first elements."""
    found: dict[Hashable, Group] = {}
    for element in elements:
        key = (element.path, element.optional, element.wide, element.problem, _shape(element, brokers))
        group = found.get(key)
        if group is None:
            found[key] = Group([element])
        else:
            group.elements.append(element)
    return list(found.values())


def request_key(plan: StepPlan, brokers: Sequence[Broker]) -> Hashable:
    """The same for plans that nodes cannot tell apart but by their names: they are asked for once."""
    return (_of_plan(plan, brokers), _size(plan), len(plan.staged), tuple(plan.argv[:1]))


def _shape(element: Element, brokers: Sequence[Broker]) -> Hashable:
    """What tells requests apart: what is asked for, how it is known, and who can reach the data."""
    plan = element.plan
    return None if plan is None else (bool(element.unknown), _of_plan(plan, brokers))


def _of_plan(plan: StepPlan, brokers: Sequence[Broker]) -> Hashable:
    reach = tuple(unfit(broker.name, broker.profile, plan, plan.image) is None for broker in brokers)
    return (
        plan.image,
        plan.image_required,
        plan.image_is_there,
        plan.left_out,
        plan.resources,
        plan.time_limit,
        plan.network,
        repr(plan.wish),
        reach,
    )


def _size(plan: StepPlan) -> int:
    return sum(item.size or 0 for item in plan.staged)


def _read(plan: StepPlan) -> Moved:
    files = [item for item in plan.staged if item.url is not None]
    return Moved(
        bytes=sum(item.size or 0 for item in files), unknown=sum(item.size is None for item in files)
    )


def _summed(parts: Iterable[Moved]) -> Moved:
    total = Moved()
    for part in parts:
        total = Moved(bytes=total.bytes + part.bytes, unknown=total.unknown + part.unknown)
    return total
