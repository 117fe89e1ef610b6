"""How many workers of which size a sweep is given on a cluster: one array a resource shape, one cap over all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc_bench.execution.header import Header
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.running.bundles import bundle_stubs

__all__ = ["ArrayChanges", "LivingArray", "Need", "NewArray", "change_arrays", "find_needs"]


@dataclass(frozen=True)
class Need:
    """What the stubs of one resource shape could use."""

    gpus: int
    """Of each worker."""
    bundles: int
    """That nobody works on yet."""
    workers: int
    """Their share of the cap, together with what is being worked on."""


@dataclass(frozen=True)
class LivingArray:
    """An array of an earlier submission, as the queue shows it."""

    key: str
    gpus: int
    running: tuple[Slot, ...]
    """The slots of the tasks that hold a node, the oldest first."""
    pending: int
    throttle: int
    ending: int = 0
    """How many of the running ones will take no more work: their workers have ended, or were told to."""
    waits: bool = False
    """Whether it may start only when other arrays are over."""

    cancelled: bool = False
    """Whether tasks of it wait although all of them were told to end: Slurm has lost the scancel."""

    @property
    def at_once(self) -> int:
        """How many of its tasks may come to run at the same time."""
        able = 0 if self.waits else self.pending
        return max(len(self.running), min(self.throttle, len(self.running) + able))

    @property
    def useful(self) -> int:
        """How many of those will take work."""
        return max(0, self.at_once - self.ending)


@dataclass(frozen=True)
class NewArray:
    """An array that is to be submitted."""

    gpus: int
    tasks: int
    throttle: int
    waits: bool
    """Whether it may start only when the arrays before it are over, since they use up the cap."""


@dataclass
class ArrayChanges:
    """What brings the arrays of an execution in line with its cap and its work."""

    throttles: dict[str, int] = field(default_factory=dict)
    """Key of an array -> its new throttle; 0: its pending tasks are to be cancelled (Slurm takes 0 for no throttle)."""
    stop: list[Slot] = field(default_factory=list)
    """The slots whose workers are to end."""
    new: list[NewArray] = field(default_factory=list)


def find_needs(
    header: Header, stubs: Sequence[Stub], cap: int, gpus_per_node: int | None, busy: Sequence[Stub] = ()
) -> list[Need]:
    """The resource shapes of `stubs`, the costliest first. The cap is shared by estimated cost, so that all shapes end
    at about the same time. `busy`: stubs that living workers are at.
    """

    def by_shape(members: Sequence[Stub]) -> dict[int, list[Stub]]:
        shapes: dict[int, list[Stub]] = {}
        for stub in members:
            gpus = header.models[stub.model].gpus if gpus_per_node is None else gpus_per_node
            shapes.setdefault(gpus, []).append(stub)
        return shapes

    shapes, at_work = by_shape(stubs), by_shape(busy)
    costs = {gpus: sum(b.cost_s for b in bundle_stubs(header, members, cap)) for gpus, members in shapes.items()}
    most = {gpus: len(members) + len(at_work.get(gpus, [])) for gpus, members in shapes.items()}
    shares = _share(cap, costs, most)
    needs = []
    for gpus in sorted(shapes, key=lambda gpus: -costs[gpus]):
        bundles = len(bundle_stubs(header, shapes[gpus], shares[gpus]))
        taken = len(bundle_stubs(header, at_work.get(gpus, []), 1))
        needs.append(Need(gpus, bundles, min(shares[gpus], bundles + taken)))
    return needs


def _share(cap: int, costs: Mapping[int, float], most: Mapping[int, int]) -> dict[int, int]:
    """One for each, the rest one by one to where the cost for each worker is highest, but no more than the stubs."""
    shares = dict.fromkeys(costs, 1)
    for _ in range(min(cap, sum(most.values())) - len(shares)):
        open_to_more = [gpus for gpus in costs if shares[gpus] < most[gpus]]
        neediest = max(open_to_more, key=lambda gpus: costs[gpus] / shares[gpus])
        shares[neediest] += 1
    return shares


def change_arrays(needs: Sequence[Need], living: Sequence[LivingArray], cap: int, max_array_size: int) -> ArrayChanges:
    """Never lets more than `cap` tasks run at once: lowers what is there to the cap, or fills what is left of it,
    first with tasks that are in the queue already.
    """
    changes = ArrayChanges()
    left = cap - sum(array.at_once for array in living)
    if left < 0:
        living = _lower(living, -left, changes)
        left = 0
    for need in needs:
        same = [array for array in living if array.gpus == need.gpus and (array.useful or array.waits)]
        if any(array.waits for array in same):  # it has its share of the cap as soon as it may start
            continue
        missing = min(need.workers - sum(array.useful for array in same), need.bundles)
        for array in same:
            more = min(missing, left, len(array.running) + array.pending - array.at_once)
            if more > 0:
                changes.throttles[array.key] = array.at_once + more
                missing, left = missing - more, left - more
        bundles = need.bundles - sum(array.pending for array in same)
        waits = left == 0 and not same
        share = min(missing, cap if waits else left)
        left -= 0 if waits else max(0, share)
        while share > 0:
            tasks = min(max(bundles, share), max_array_size)
            changes.new.append(NewArray(need.gpus, tasks, min(share, tasks), waits))
            share, bundles = share - tasks, bundles - tasks
    return changes


def _lower(living: Sequence[LivingArray], surplus: int, changes: ArrayChanges) -> list[LivingArray]:
    """Takes the surplus from the newest arrays; returns what they will be."""
    lowered = list(living)
    for place in reversed(range(len(lowered))):
        array = lowered[place]
        cut = min(surplus, array.at_once)
        surplus -= cut
        if cut:
            keep = array.at_once - cut
            if array.pending:
                changes.throttles[array.key] = keep
            changes.stop += array.running[keep:]
            lowered[place] = dataclasses.replace(
                array,
                running=array.running[:keep],
                pending=array.pending if keep else 0,
                throttle=max(1, keep),
                ending=min(array.ending, keep),
            )
    return lowered
