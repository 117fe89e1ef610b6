"""How the cap of a sweep is shared over job arrays, those in the queue and new ones."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hpc_bench.execution.slot import Slot
from hpc_bench.running.slurm.arrays import ArrayChanges, LivingArray, Need, change_arrays, find_needs
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.sweep import parse_sweep
from tests.support.builders import sweep_data

UNLIMITED = 10_001


def living(
    job: str, gpus: int, running: int, pending: int, throttle: int, ending: int = 0, *, waits: bool = False
) -> LivingArray:
    slots = tuple(Slot(job, number) for number in range(running))
    return LivingArray(job, gpus, slots, pending, throttle, min(ending, running), waits and not running)


arrays = st.builds(
    living,
    job=st.just("1"),
    gpus=st.sampled_from([1, 4]),
    running=st.integers(0, 6),
    pending=st.integers(0, 20),
    throttle=st.integers(1, 8),
    ending=st.integers(0, 3),
    waits=st.booleans(),
)
several = st.lists(arrays, max_size=4).map(
    lambda items: [
        living(str(number), item.gpus, len(item.running), item.pending, item.throttle, item.ending, waits=item.waits)
        for number, item in enumerate(items)
    ]
)


@st.composite
def wanted(draw: st.DrawFn) -> tuple[int, list[Need]]:
    """A cap, and needs whose shares of it add up to at most the cap, or are one each."""
    cap = draw(st.integers(1, 10))
    needs: list[Need] = []
    for gpus in draw(st.lists(st.sampled_from([1, 2, 4]), unique=True, max_size=3)):
        left = max(1, cap - sum(need.workers for need in needs))
        workers = draw(st.integers(1, left))
        needs.append(Need(gpus, draw(st.integers(workers, 40)), workers))
    return cap, needs


def after(array: LivingArray, changes: ArrayChanges) -> int:
    """How many of its tasks may run at once when the changes are made."""
    running = len([slot for slot in array.running if slot not in changes.stop])
    throttle = changes.throttles.get(array.key, array.throttle)
    return max(running, min(throttle, running + (0 if array.waits else array.pending)))


@given(wanted(), several, st.integers(1, 30))
def test_cap_is_never_exceeded_and_nobody_is_forgotten(
    wish: tuple[int, list[Need]], there: list[LivingArray], max_array_size: int
) -> None:
    cap, needs = wish

    changes = change_arrays(needs, there, cap, max_array_size)

    at_once = sum(after(array, changes) for array in there)
    assert at_once + sum(array.throttle for array in changes.new if not array.waits) <= cap
    assert all(array.throttle <= array.tasks <= max_array_size for array in changes.new)
    for need in needs:
        serving = [array for array in there if array.gpus == need.gpus and (after(array, changes) or array.waits)]
        assert serving or any(array.gpus == need.gpus for array in changes.new)


def test_same_sweep_again_changes_nothing() -> None:
    there = [living("7", 1, running=3, pending=37, throttle=3)]

    changes = change_arrays([Need(1, 37, 3)], there, 3, UNLIMITED)

    assert changes == ArrayChanges()


def test_raised_cap_lets_waiting_tasks_run_before_new_ones_are_submitted() -> None:
    there = [living("7", 1, running=2, pending=3, throttle=2)]

    changes = change_arrays([Need(1, 20, 8)], there, 8, UNLIMITED)

    assert changes.throttles == {"7": 5}
    assert [(array.tasks, array.throttle) for array in changes.new] == [(17, 3)]


def test_lowered_cap_stops_the_newest_and_cancels_what_may_not_run_any_more() -> None:
    there = [living("7", 1, running=2, pending=0, throttle=2), living("8", 1, running=2, pending=5, throttle=2)]

    changes = change_arrays([], there, 1, UNLIMITED)

    assert changes.throttles == {"8": 0}
    assert changes.stop == [Slot("8", 0), Slot("8", 1), Slot("7", 1)]


def test_array_that_waits_for_others_is_left_to_wait() -> None:
    there = [living("1", 1, running=1, pending=3, throttle=1), living("2", 2, 0, 4, 1, waits=True)]

    changes = change_arrays([Need(1, 3, 1), Need(2, 4, 1)], there, 1, UNLIMITED)

    assert changes == ArrayChanges()


def test_workers_that_end_count_towards_the_cap_and_not_as_help() -> None:
    there = [living("1", 1, running=2, pending=0, throttle=2, ending=2)]

    changes = change_arrays([Need(1, 4, 2)], there, 2, UNLIMITED)

    assert [(array.throttle, array.waits) for array in changes.new] == [(2, True)]


def test_what_is_being_worked_on_keeps_its_workers_when_the_cap_is_raised() -> None:
    manifest = expand_sweep(parse_sweep(sweep_data(Path("results"), benchmark_configs={"needle": [256, 512, 1024]})))
    busy, pending = manifest.stubs[:3], manifest.stubs[3:]

    needs = find_needs(manifest.header, pending, 6, None, busy)

    assert sum(need.workers for need in needs) == 6


def test_cap_is_shared_by_cost() -> None:
    data = sweep_data(
        Path("results"),
        model_names=[{"name": "org/alpha", "gpus": 4}, "org/beta"],
        benchmark_configs={"needle": [256, 512, 1024, 2048, 4096]},
        exclude=[{"model": "org/alpha", "subset": "4096"}, {"model": "org/alpha", "subset": "2048"}],
    )
    manifest = expand_sweep(parse_sweep(data))

    needs = find_needs(manifest.header, manifest.stubs, 8, None)

    shares = {need.gpus: need.workers for need in needs}
    assert shares[1] > shares[4] >= 1
    assert sum(shares.values()) == 8
    assert [need.gpus for need in find_needs(manifest.header, manifest.stubs, 8, 4)] == [4]
