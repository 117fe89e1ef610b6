"""The contract of a benchmark: its options, identity and subsets, and the samples that it loads."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from hpc_bench.benchmarks.base import Benchmark, Tokens
from hpc_bench.errors import SweepError
from hpc_bench.execution.results.raw_results import refuse_taken_columns
from hpc_bench.plugin_checks.contract import ContractError, require, require_dataclass, require_json
from hpc_bench.plugin_checks.scores import check_scores
from hpc_bench.values import Sample

__all__ = ["check_benchmark"]

_COMMIT = "0" * 40


def _about_tokens(text: str) -> int:
    """Tokens of an English text, as most tokenizers count: four characters each."""
    return (len(text) + 3) // 4


def check_benchmark(
    benchmark: Benchmark,
    *,
    subsets: Sequence[str] = (),
    samples: Mapping[str | None, Sequence[Sample]] | None = None,
    tokens: Tokens = _about_tokens,
) -> None:
    """Checks a benchmark against the contract of `Benchmark`; ContractError says what is violated.

    Loads and scores all subsets, or those named in `subsets`, so choose options that make them small. If the data is
    not on this machine, pass a few `samples` for each subset to be scored, and nothing is loaded.
    """
    require_dataclass(benchmark)
    _check_subset_names(benchmark)
    checked: Sequence[str | None] = tuple(samples or subsets or benchmark.subsets) or (None,)
    _check_hub_data(benchmark, checked)
    for subset in checked:
        where = _name_of(benchmark, subset)
        _check_identity(benchmark, subset)
        _check_size(benchmark, subset)
        loaded = samples[subset] if samples else _load(benchmark, subset, tokens)
        _check_samples(where, loaded)
        check_scores(benchmark, subset, loaded, where)


def _name_of(benchmark: Benchmark, subset: str | None) -> str:
    """How messages name a subset."""
    return type(benchmark).__name__ + (f" (subset {subset})" if subset is not None else "")


def _check_subset_names(benchmark: Benchmark) -> None:
    name = type(benchmark).__name__
    for subset in benchmark.subsets:
        require(
            _spelled(benchmark, subset) == subset,
            f"{name}: check_subset({subset!r}) must return the subset as `subsets` spells it",
        )
    for wrong in ("no such subset", "", "../../etc"):
        require(
            _spelled(benchmark, wrong) is None,
            f"{name}: check_subset({wrong!r}) must raise SweepError, since there is no such subset",
        )


def _spelled(benchmark: Benchmark, subset: str) -> str | None:
    """What `check_subset` returns for a name; None: it refuses the name."""
    try:
        return benchmark.check_subset(subset)
    except SweepError:
        return None
    except Exception as error:
        raise ContractError(
            f"{type(benchmark).__name__}: check_subset({subset!r}) raised {type(error).__name__}, not SweepError"
        ) from error


def _check_identity(benchmark: Benchmark, subset: str | None) -> None:
    where = _name_of(benchmark, subset)
    identity = benchmark.identity(subset)
    require(require_json(identity, f"{where}: identity") == identity, f"{where}: identity must be plain JSON data")
    require(
        dataclasses.replace(benchmark).identity(subset) == identity,
        f"{where}: identity must be the same at every call, for equal options",
    )
    require(identity.get("version") == benchmark.version, f"{where}: identity must contain the benchmark's version")
    paths = [value for value in map(str, identity.values()) if value.startswith(("/", "~", "./"))]
    require(not paths, f"{where}: identity contains the path {paths[:1]}; use the sha256 of the file instead")


def _check_size(benchmark: Benchmark, subset: str | None) -> None:
    size = dataclasses.asdict(benchmark.size(subset))
    wrong = [f"{name} {value}" for name, value in size.items() if not value > 0]
    require(not wrong, f"{_name_of(benchmark, subset)}: size must be positive, not {', '.join(wrong)}")


def _check_hub_data(benchmark: Benchmark, subsets: Sequence[str | None]) -> None:
    """One repository and revision for all subsets, and an option called revision that pins it."""
    name = type(benchmark).__name__
    repos = [repo for subset in subsets if (repo := benchmark.hub_data(subset))]
    if not repos:
        return
    different = sorted({f"{repo.kind} {repo.name} at {repo.revision}" for repo in repos})
    require(len(different) == 1, f"{name}: hub_data names more than one repository or revision: {different}")
    fields = [field.name for field in dataclasses.fields(benchmark)]
    require(
        "revision" in fields,
        f"{name}: hub_data requires an option `revision`, with which `offline: true` pins a commit",
    )
    pinned = dataclasses.replace(benchmark, revision=_COMMIT)  # type: ignore[call-arg]  # checked above
    for subset in subsets:
        where = _name_of(benchmark, subset)
        found = pinned.hub_data(subset)
        followed = found is not None and found.revision == _COMMIT
        require(followed, f"{where}: hub_data does not follow the option `revision`")
        require(
            _COMMIT in json.dumps(pinned.identity(subset)),
            f"{where}: identity does not contain the revision of hub_data",
        )


def _load(benchmark: Benchmark, subset: str | None, tokens: Tokens) -> list[Sample]:
    benchmark.check_data([subset])
    first = list(benchmark.load(subset, tokens))
    again = list(dataclasses.replace(benchmark).load(subset, tokens))
    require(first == again, f"{_name_of(benchmark, subset)}: load must return the same samples at every call")
    return first


def _check_samples(where: str, samples: Sequence[Sample]) -> None:
    require(bool(samples), f"{where}: load returned no samples")
    for sample in samples:
        _check_sample(where, sample)
    ids = Counter(sample.sample_id for sample in samples)
    duplicated = [name for name, times in ids.items() if times > 1]
    require(not duplicated, f"{where}: sample ids must be unique; duplicated: {', '.join(duplicated[:3])}")
    groups = [key for key, _ in itertools.groupby(samples, key=lambda sample: (sample.context, sample.chat))]
    require(
        len(groups) == len(set(groups)),
        f"{where}: samples of one context must be next to each other, so that it is read once",
    )
    try:
        refuse_taken_columns(samples)
    except ValueError as error:
        raise ContractError(f"{where}: {error}") from error


def _check_sample(where: str, sample: Sample) -> None:
    which = f"{where}: sample {sample.sample_id!r}"
    texts = ("sample_id", "context", "question", "answer_prefix", "task")
    wrong = [name for name in texts if not isinstance(getattr(sample, name), str)]
    require(not wrong, f"{which}: {', '.join(wrong)} must be a string")
    for name in ("references", "stop_strings"):
        value = getattr(sample, name)
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        require(fits, f"{which}: {name} must be a tuple of strings, not {value!r}")
    require(bool(sample.question + sample.answer_prefix), f"{which}: question and answer_prefix are both empty")
    require(sample.max_new_tokens >= 1, f"{which}: max_new_tokens must be at least 1, not {sample.max_new_tokens}")
    require(sample.cut_tokens == 0, f"{which}: cut_tokens must be 0; it is set where a context is cut")
    extra = dict(sample.extra)
    require(require_json(extra, f"{which}: extra") == extra, f"{which}: extra must be plain JSON data")
