"""Results on disk that are not what a plan asks for: in what they differ, and what can become of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.fingerprint import identity_of
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.facts import Facts
from hpc_bench.execution.results.publish import write_facts
from hpc_bench.execution.results.replacement import replace_files, workplace
from hpc_bench.execution.results.result import STUB, read_result
from hpc_bench.execution.stub import Stub

__all__ = ["Stale", "accept_code", "compare_with_plan", "discard_stale"]


@dataclass(frozen=True)
class Stale:
    """A published result that is not what the plan asks for."""

    stub: Stub
    reason: str
    """The differing fields of the identity, or what is wrong with the files."""
    facts: Facts | None = None
    """What it is of; None where its files are invalid."""
    by_code_alone: bool = False
    """Whether nothing but the code of a plug-in has changed."""

    @property
    def is_invalid(self) -> bool:
        """Whether its files cannot be trusted, whatever they are of."""
        return self.facts is None


def compare_with_plan(header: Header, stub: Stub, facts: Facts) -> Stale:
    """In what a result of another configuration differs from the plan's stub in its place."""
    old, new, asked = facts.identity, identity_of(header, stub), header.request.asked
    differing = list(_differing(old, new))
    by_code = bool(old) and _without_code(old) == _without_code(new)
    if facts.asked and facts.asked != asked:
        differing += _differing({"request": dataclasses.asdict(facts.asked)}, {"request": dataclasses.asdict(asked)})
        by_code = False
    return Stale(stub, ", ".join(differing) or "another fingerprint", facts, by_code)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The fields that differ, each with both values; of identities in another form, that alone."""
    if not path and "format" in old and old["format"] != new.get("format"):
        yield (
            f"format: {old['format']} is on disk, {new['format']} is what this version makes (CHANGELOG.md says why; "
            "--new runs the sweep again in a fresh execution)"
        )
        return
    for key in dict.fromkeys([*old, *new]):
        here, mine, other = (f"{path}.{key}" if path else str(key)), old.get(key), new.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            yield from _differing(mine, other, here)
        elif mine != other:
            yield _difference(here, mine, other)


def _difference(path: str, old: Any, new: Any) -> str:
    if path.rpartition(".")[2] == "plugin_code":
        return f"{path}: code changed"
    if path == "attention.maskers" and isinstance(old, list) and isinstance(new, list):
        if [_without_code(each) for each in old] == [_without_code(each) for each in new]:
            names = dict.fromkeys(one["masker"] for one, two in zip(old, new, strict=True) if one != two)
            return f"code changed: {', '.join(names)}"
        return f"{path}: {_as_in_sweep(old)} is on disk, {_as_in_sweep(new)} in the sweep"
    return f"{path}: {old!r} is on disk, {new!r} in the sweep"


def _as_in_sweep(chain: Sequence[Any]) -> str:
    """A chain of maskers as a sweep file writes it, with versions where they are not the first."""
    try:
        maskers = [
            {each["masker"] + f" (version {each['version']})" * (each["version"] > 1): each["parameters"]}
            for each in chain
        ]
        return yaml.safe_dump(maskers, default_flow_style=True, width=1000).strip()
    except (TypeError, ValueError, KeyError, yaml.YAMLError):
        return repr(chain)


def _without_code(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_code(part) for key, part in value.items() if key != "plugin_code"}
    return [_without_code(part) for part in value] if isinstance(value, list) else value


def discard_stale(execution: ExecutionDir, stale: Sequence[Stale]) -> Path:
    """Moves stale results aside, never deletes them; returns where to."""
    folder = execution.discarded(time.strftime("%Y%m%d_%H%M%S"))
    try:
        for item in stale:
            target = folder / item.stub.result_path
            target.parent.mkdir(parents=True, exist_ok=True)
            execution.result(item.stub.result_path).rename(target)
    except OSError as error:
        raise ExecutionError(f"{folder}: stale results cannot be moved there: {error.strerror}") from error
    return folder


def accept_code(execution: ExecutionDir, header: Header, stale: Sequence[Stale]) -> int:
    """Keeps the results whose plug-ins' code alone has changed as results of the present code, and records that in
    their stub.json, whose earlier form stays in `earlier/`; returns how many.
    """
    kept = [item for item in stale if item.by_code_alone and item.facts]
    try:
        for item in kept:
            _accept(execution, header, item)
    except OSError as error:
        raise ExecutionError(f"{execution.path}: results cannot be kept: {error.strerror}") from error
    return len(kept)


def _accept(execution: ExecutionDir, header: Header, item: Stale) -> None:
    folder, stub = execution.result(item.stub.result_path), item.stub
    fingerprint = item.facts.fingerprint if item.facts else ""
    result = read_result(folder, fingerprint, header.request.asked)
    facts = dataclasses.replace(
        result.facts, key=stub.key, fingerprint=stub.fingerprint, identity=identity_of(header, stub)
    )
    document = result.documents[STUB]
    accepted = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "fingerprint": fingerprint}
    others = {**document, "accepted_code": [*document.get("accepted_code", []), accepted]}
    with workplace(execution.rescoring, stub.key) as prepared:
        write_facts(prepared, facts, others)
        replace_files(folder, prepared)
