"""How a plan is shown: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from hpc_bench.adapters.generation_config import read_generation_config, unused_fields
from hpc_bench.errors import BackendError
from hpc_bench.execution.results.scoring_versions import advise_rescoring
from hpc_bench.running.backend import Backend
from hpc_bench.running.bundles import bundle_stubs
from hpc_bench.sweep.attention_config import describe_attention
from hpc_bench.sweep.plan import Plan
from hpc_bench.values import Json

__all__ = ["plan_as_json", "print_plan"]


Backends = Mapping[str, Backend | BackendError]
"""By name; where one cannot be used, why."""


@dataclass(frozen=True)
class Load:
    """What a backend would be given."""

    bundles: int
    workers: int
    estimated_gpu_hours: float


def plan_as_json(plan: Plan, backends: Backends) -> dict[str, object]:
    """The plan for programs."""
    return {
        **_counts(plan),
        "backends": {
            name: {"error": str(backend)} if isinstance(backend, BackendError) else asdict(_load(plan, backend))
            for name, backend in backends.items()
        },
        "unused_generation_config": _unused_generation_config(plan),
    }


def _load(plan: Plan, backend: Backend) -> Load:
    bundles = bundle_stubs(plan.manifest.header, plan.to_run, backend.size)
    hours = sum(bundle.cost_s * max(1, bundle.gpus) for bundle in bundles) / 3600
    return Load(len(bundles), min(backend.size, len(bundles)), round(hours, 3))


def _counts(plan: Plan) -> dict[str, object]:
    return {
        "name": plan.sweep.name,
        "execution": str(plan.execution.path) if plan.execution else None,
        "stubs": len(plan.manifest.stubs),
        "complete": len(plan.with_state("complete")),
        "scored_otherwise": plan.scored_otherwise,
        "other_environments": [asdict(difference) for difference in plan.other_environments],
        "stale": len(plan.stale),
        "failed": len(plan.with_state("failed")),
        "running": len(plan.with_state("running")),
        "to_run": len(plan.to_run),
    }


def _unused_generation_config(plan: Plan) -> dict[str, dict[str, Json]]:
    """Model -> what its generation_config.json sets and answers do not follow, where the file is on this machine."""
    header = plan.manifest.header
    unused = {
        title: unused_fields(
            read_generation_config(model.source, model.revision), from_model=header.generation.from_model
        )
        for title, model in header.models.items()
    }
    return {title: fields for title, fields in unused.items() if fields}


def print_plan(console: Console, plan: Plan, backends: Backends) -> None:
    """Counts, a table of stubs to run by model and attention, and for each backend bundles, workers, the estimate."""
    facts = _counts(plan)
    where = f"resumes {facts['execution']}" if plan.execution else f"a new execution in {plan.sweep.base_result_dir}"
    console.print(f"{plan.sweep.name}: {facts['stubs']} stubs, {where}")
    states = ("complete", "stale", "failed", "running", "to_run")
    console.print("  " + ", ".join(f"{facts[state]} {state.replace('_', ' ')}" for state in states))
    table = Table("model", *plan.manifest.header.attentions, title="stubs to run / all", title_justify="left")
    to_run = {stub.key for stub in plan.to_run}
    cells: dict[tuple[str, str], list[int]] = {}
    for stub in plan.manifest.stubs:
        cell = cells.setdefault((stub.model, stub.attention), [0, 0])
        cell[0] += stub.key in to_run
        cell[1] += 1
    for model in plan.manifest.header.models:
        row = (cells.get((model, attention)) for attention in plan.manifest.header.attentions)
        table.add_row(model, *(f"{cell[0]} / {cell[1]}" if cell else "-" for cell in row))
    console.print(table)
    for name, attention in plan.sweep.attentions.items():
        console.print(f"{name}: {describe_attention(attention)}", soft_wrap=True)
    _print_unused(console, plan)
    for name, count in plan.unmeasured.items():
        console.print(
            f"{name}: {count} complete stubs were run with another measure_error and stay as they are; "
            "--new, or another name for the config, measures"
        )
    if plan.execution and plan.scored_otherwise:
        console.print(advise_rescoring(plan.scored_otherwise, plan.execution.path), soft_wrap=True)
    for difference in plan.other_environments:
        console.print(f"complete in another environment: {difference.summary}", soft_wrap=True)
    _print_stale(console, plan)
    if facts["failed"]:
        console.print(f"{facts['failed']} stubs used up their attempts; --retry-failed gives them new ones")
    if not plan.to_run:
        console.print("nothing to run")
        return
    for name, backend in backends.items():
        named = f"--backend {name}: " if len(backends) > 1 else ""
        console.print(named + _offer(plan, backend))


def _offer(plan: Plan, backend: Backend | BackendError) -> str:
    if isinstance(backend, BackendError):
        return f"not possible: {backend}"
    load, where = _load(plan, backend), backend.describe(plan.manifest.header, plan.to_run)
    hours = f"about {load.estimated_gpu_hours} GPU hours, a rough guess until results of the same kind exist"
    return f"{load.bundles} bundles; {where}; {hours}"


def _print_stale(console: Console, plan: Plan) -> None:
    for item in plan.stale[:5]:
        console.print(f"{'invalid' if item.is_invalid else 'stale'}: {item.stub.title}: {item.reason}")
    if plan.stale:
        console.print("submit will refuse, unless --discard-stale moves stale results aside or --new starts afresh")
    if by_code := sum(item.by_code_alone for item in plan.stale):
        console.print(f"{by_code} stale results differ in the code of a plug-in alone; --accept-code keeps them")


def _print_unused(console: Console, plan: Plan) -> None:
    for title, fields in _unused_generation_config(plan).items():
        shown = ", ".join(f"{name}: {value}" for name, value in fields.items())
        advice = (
            ""
            if plan.manifest.header.generation.from_model
            else "; generation_kwargs: {from_model: true} uses all but limits"
        )
        console.print(f"{title}: its generation_config.json sets {shown}, which is not used{advice}", soft_wrap=True)
