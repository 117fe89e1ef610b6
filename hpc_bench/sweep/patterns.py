"""Which stubs `include` and `exclude` leave; a pattern that matches no stub is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from hpc_bench.errors import SweepError, unknown_name, within
from hpc_bench.sweep.sections import Pattern
from hpc_bench.sweep.sweep import Sweep

__all__ = ["stub_filter"]


def stub_filter(sweep: Sweep, names: Mapping[str, str]) -> Callable[..., bool]:
    """Whether a model's title, attention, benchmark and subset are to run; `names` are the models' names by title.

    SweepError if a pattern matches nothing, whatever the other patterns leave of the sweep.
    """
    for key, patterns in (("include", sweep.include), ("exclude", sweep.exclude)):
        for index, pattern in enumerate(patterns):
            with within(key, str(index)):
                _check_pattern(pattern, sweep, names)

    def matches(pattern: Pattern, model: str, attention: str, benchmark: str, subset: str | None) -> bool:
        return (
            (fnmatchcase(names[model], pattern.model) or fnmatchcase(model, pattern.model))
            and fnmatchcase(attention, pattern.attention)
            and fnmatchcase(benchmark, pattern.benchmark)
            and fnmatchcase(subset or "", str(pattern.subset))
        )

    def wanted(*combination: Any) -> bool:
        included = not sweep.include or any(matches(pattern, *combination) for pattern in sweep.include)
        return included and not any(matches(pattern, *combination) for pattern in sweep.exclude)

    return wanted


def _check_pattern(pattern: Pattern, sweep: Sweep, names: Mapping[str, str]) -> None:
    """Key by key, since a sweep is a product; only the subsets are those of the benchmarks that match."""
    _check_glob("model", pattern.model, (*names.values(), *names))
    _check_glob("attention", pattern.attention, sweep.attentions)
    _check_glob("benchmark", pattern.benchmark, [entry.name for entry in sweep.benchmarks])
    matching = [entry for entry in sweep.benchmarks if fnmatchcase(entry.name, pattern.benchmark)]
    _check_glob("subset", str(pattern.subset), [subset or "" for entry in matching for subset in entry.subsets])


def _check_glob(key: str, glob: str, names: Iterable[str]) -> None:
    if any(fnmatchcase(name, glob) for name in names):
        return
    if not (valid := list(filter(None, names))):
        raise SweepError(f"{glob!r} matches no stub: the benchmark has no subsets; leave the key out", key)
    raise SweepError(f"matches no stub: {unknown_name(key, glob, valid)}", key)
