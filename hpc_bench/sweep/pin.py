"""What a sweep names on the hub, and the commits that stand for it where jobs cannot ask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hpc_bench.adapters.model_source import find_model
from hpc_bench.errors import SweepError, within
from hpc_bench.hub import find_cached
from hpc_bench.sweep.sections import ModelEntry
from hpc_bench.sweep.sweep import BenchmarkEntry, Sweep
from hpc_bench.values import HubRepo

__all__ = ["hub_repos", "pin_sweep"]

_MOST_FILES = 3
_OTHER_FILES = ("gguf_file", "subfolder", "use_safetensors", "variant")
"""Options of `from_pretrained` that make it read other files than those that are prefetched."""


def hub_repos(sweep: Sweep) -> list[HubRepo]:
    """Every model and data set on the hub that a sweep names, each once."""
    repos = []
    for index, entry in enumerate(sweep.models):
        with within("model_names", str(index)):
            if find_model(entry.name, entry.revision, sweep.folder).on_hub:
                _refuse_other_files({**sweep.adapter.model_kwargs, **entry.model_kwargs})
                repos.append(_model_repo(entry))
    for benchmark in sweep.benchmarks:
        repos += _data_repos(benchmark)
    return list(dict.fromkeys(repos))


def _refuse_other_files(model_kwargs: Mapping[str, Any]) -> None:
    for key in _OTHER_FILES:
        if model_kwargs.get(key) not in (None, True):
            raise SweepError(
                f"model_kwargs.{key} asks for files that are not prefetched; download them by hand and name the folder"
            )


def _model_repo(entry: ModelEntry) -> HubRepo:
    return HubRepo("model", entry.name, entry.revision or "main")


def _data_repos(entry: BenchmarkEntry) -> list[HubRepo]:
    return [repo for subset in entry.subsets if (repo := entry.benchmark.hub_data(subset))]


def pin_sweep(sweep: Sweep) -> Sweep:
    """The sweep with the commits that the local cache holds as revisions; SweepError names all that is missing."""
    commits, missing = {}, []
    for repo in hub_repos(sweep):
        commits[repo], lacking = find_cached(repo)
        if lacking:
            more = ", ..." if len(lacking) > _MOST_FILES else ""
            missing.append(f"{repo.title} (lacks {', '.join(lacking[:_MOST_FILES])}{more})")
    if missing:
        from huggingface_hub import constants

        raise SweepError(
            f"not in the hub's cache {constants.HF_HUB_CACHE}: {'; '.join(missing)}; "
            f"run `hpc-bench prefetch {sweep.file or 'sweep.yaml'}` where there is internet, with the same HF_HOME",
            "offline",
        )
    return _pinned(sweep, commits)


def _pinned(sweep: Sweep, commits: Mapping[HubRepo, str]) -> Sweep:
    models = [
        dataclasses.replace(entry, revision=commits.get(_model_repo(entry), entry.revision)) for entry in sweep.models
    ]
    benchmarks = []
    for entry in sweep.benchmarks:
        for repo in _data_repos(entry)[:1]:  # all its subsets are of one repository
            pinned = dataclasses.replace(entry.benchmark, revision=commits[repo])  # type: ignore[call-arg]
            entry = dataclasses.replace(entry, benchmark=pinned)
        benchmarks.append(entry)
    return dataclasses.replace(sweep, models=tuple(models), benchmarks=tuple(benchmarks))
