"""What a sweep means, given what is on disk: what is complete, stale, failed, and what is left to run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from hpc_bench.errors import PlanError, SweepError, in_file
from hpc_bench.execution.attempts.board import Board, State, StubState
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.manifest import Manifest, read_header
from hpc_bench.execution.results.environment import Difference, environment_of, find_differences
from hpc_bench.execution.results.result import InvalidResultError, StaleResultError, read_result
from hpc_bench.execution.results.scoring_versions import present_versions
from hpc_bench.execution.stub import Stub
from hpc_bench.execution.view import ExecutionView
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.stale import Stale, compare_with_plan
from hpc_bench.sweep.sweep import Sweep

__all__ = ["Plan", "make_plan", "refuse_conflict", "refuse_stale"]

_PACKAGES = {"hpc_bench": "hpc-bench", "torch": "torch", "transformers": "transformers"}
"""Key of a result's environment -> the installed package."""


@dataclass(frozen=True)
class Plan:
    """What a sweep means, given what is on disk."""

    sweep: Sweep
    manifest: Manifest
    execution: ExecutionDir | None
    """The execution that will be resumed; None: a new one."""
    previous: str
    """The name of the newest execution in the base result dir, of whatever sweep."""
    states: Mapping[str, StubState]
    """Stub key -> where it stands."""
    stale: tuple[Stale, ...]
    unmeasured: Mapping[str, int] = field(default_factory=dict)
    """Attention config -> its complete stubs whose attention error was measured otherwise than the sweep asks for."""
    scored_otherwise: int = 0
    """Complete stubs whose scores are of another scoring version than the benchmark's present one."""
    other_environments: tuple[Difference, ...] = ()
    """In what complete stubs were made otherwise than those that will stand beside them."""

    def with_state(self, state: State) -> list[Stub]:
        """The stubs in a state; stale ones are in none."""
        stale = {item.stub.key for item in self.stale}
        return [s for s in self.manifest.stubs if self.states[s.key].state == state and s.key not in stale]

    @property
    def to_run(self) -> list[Stub]:
        """What a submission will run."""
        return self.with_state("pending")


def make_plan(sweep: Sweep, *, new: bool = False, retry_failed: bool = False) -> Plan:
    """Expands a sweep and compares it with its newest execution; writes nothing."""
    with in_file(sweep.file):
        _check_base(sweep.base_result_dir)
        manifest = expand_sweep(sweep)
    found = [item for item in ExecutionDir.all_in(sweep.base_result_dir) if item.manifest.exists()]
    previous = found[0].path.name if found else ""
    execution = None if new else next((item for item in found if read_header(item).name == sweep.name), None)
    if execution is None:
        return Plan(sweep, manifest, None, previous, {stub.key: StubState("pending", 0) for stub in manifest.stubs}, ())
    header = dataclasses.replace(manifest.header, forgiven=dict(read_header(execution).forgiven))
    states = _states(execution, header, manifest.stubs)
    if retry_failed:
        failed = {key: state.attempt for key, state in states.items() if state.state == "failed"}
        header = dataclasses.replace(header, forgiven={**header.forgiven, **failed})
        states = {k: dataclasses.replace(v, state="pending") if k in failed else v for k, v in states.items()}
    checked = _check_results(execution, header, [s for s in manifest.stubs if states[s.key].state == "complete"])
    header = dataclasses.replace(header, measured=checked.seconds)
    made = Manifest(header, manifest.stubs)
    return Plan(
        sweep,
        made,
        execution,
        previous,
        states,
        tuple(checked.stale),
        dict(checked.unmeasured),
        checked.scored_otherwise,
        tuple(find_differences(_beside_the_present(checked.environments))),
    )


def _beside_the_present(
    environments: Mapping[str, tuple[str, Mapping[str, str]]],
) -> Iterator[tuple[str, Mapping[str, str], Mapping[str, str]]]:
    """Each result's environment, beside the installed versions and the dtype and device of its model's first result.

    A wheel's own metadata may leave out the local part that torch says of itself (2.13.0+cu130).
    """
    installed = {key: version(name).partition("+")[0] for key, name in _PACKAGES.items()}
    first: dict[str, Mapping[str, str]] = {}
    for title, (model, environment) in environments.items():
        public = {key: value.partition("+")[0] if key in installed else value for key, value in environment.items()}
        yield title, public, {**first.setdefault(model, public), **installed}


def _check_base(base: Path) -> None:
    """SweepError if the folder is there but is none, or can be none."""
    try:
        nearest = next(path for path in (base, *base.parents) if path.exists())
    except OSError as error:
        raise SweepError(
            f"{base} cannot be used: {error.strerror}; choose another folder", "base_result_dir"
        ) from error
    if not nearest.is_dir():
        raise SweepError(f"{base} cannot be used: {nearest} is a file; choose a folder, not a file", "base_result_dir")


def _states(execution: ExecutionDir, header: Header, stubs: Sequence[Stub]) -> dict[str, StubState]:
    board = Board(execution, header)
    board.refresh()
    return {stub.key: board.state(stub) for stub in stubs}


@dataclass(frozen=True)
class _Checked:
    """What the results on disk say."""

    stale: list[Stale]
    seconds: dict[str, float]
    """Bundle -> mean seconds of its stubs."""
    unmeasured: Counter[str]
    scored_otherwise: int
    environments: dict[str, tuple[str, Mapping[str, str]]]
    """Title of a stub -> its model, and the environment of its result."""


def _check_results(execution: ExecutionDir, header: Header, complete: Sequence[Stub]) -> _Checked:
    """The results that are not what the plan asks for, and facts of the others."""
    stale: list[Stale] = []
    seconds: dict[str, list[float]] = {}
    unmeasured: Counter[str] = Counter()
    scoring, scored_otherwise = present_versions(header), 0
    environments: dict[str, tuple[str, Mapping[str, str]]] = {}
    for stub in complete:
        try:
            facts = read_result(execution.result(stub.result_path), stub.fingerprint, header.request.asked).facts
        except StaleResultError as error:
            stale.append(compare_with_plan(header, stub, error.facts))
            continue
        except InvalidResultError as error:
            stale.append(Stale(stub, str(error)))
            continue
        seconds.setdefault("/".join(part or "" for part in stub.bundle), []).append(facts.seconds)
        unmeasured[stub.attention] += facts.measure_error != header.attentions[stub.attention].measure_error
        scored_otherwise += facts.scoring_version != scoring[stub.benchmark]
        environments[stub.title] = (stub.model, environment_of(facts))
    means = {bundle: sum(values) / len(values) for bundle, values in seconds.items()}
    return _Checked(stale, means, +unmeasured, scored_otherwise, environments)


def refuse_stale(plan: Plan) -> None:
    """PlanError if results on disk differ from the plan, with each differing field once, or are invalid."""
    invalid = [item for item in plan.stale if item.is_invalid]
    stale = [item for item in plan.stale if not item.is_invalid]
    problems = []
    if stale:
        reasons = Counter(item.reason for item in stale)
        shown = "; ".join(f"{count} with {reason}" for reason, count in reasons.most_common(5))
        where = plan.execution.path if plan.execution else ""
        accept = ", or keep them with --accept-code" if any(item.by_code_alone for item in stale) else ""
        problems.append(
            f"{len(stale)} complete results of {where} are not what the sweep asks for ({shown}); keep them and give "
            "what changed another name in the sweep, or start a fresh execution with --new, or move them aside with "
            f"--discard-stale{accept}"
        )
    if invalid:
        more = f", and {len(invalid) - 1} more" if len(invalid) > 1 else ""
        problems.append(f"invalid result: {invalid[0].reason} (--discard-stale moves it aside){more}")
    if problems:
        raise PlanError("; ".join(problems))


def refuse_conflict(plan: Plan) -> None:
    """PlanError if workers are making results of another configuration in places that the plan wants for its own."""
    if plan.execution is None:
        return
    present = ExecutionView(plan.execution)
    present.refresh()
    if not any(worker.alive for worker in present.board.workers.values()):
        return
    wanted = {stub.result_path: stub.key for stub in plan.manifest.stubs}
    others_asked = present.manifest.header.request.asked != plan.manifest.header.request.asked
    contested = [
        stub
        for stub in present.manifest.stubs
        if stub.result_path in wanted and (others_asked or wanted[stub.result_path] != stub.key)
    ]
    busy = [stub.title for stub in contested if present.state(stub).state == "running"]
    if busy:
        raise PlanError(
            f"workers are running {len(busy)} stubs of {plan.execution.path} under another configuration "
            f"({', '.join(busy[:3])}); wait for them, or `hpc-bench cancel {plan.execution.path}` first"
        )
