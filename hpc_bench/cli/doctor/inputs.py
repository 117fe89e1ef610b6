"""What a sweep reads: whether its models and data are here or can be fetched, and whether prompts fit the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc_bench.attention.model_shape import positions_of_config, read_model_json
from hpc_bench.cli.doctor.finding import Finding, ok, wrong
from hpc_bench.errors import HpcBenchError, HubError, in_file
from hpc_bench.execution.header import Header
from hpc_bench.execution.stub import Stub
from hpc_bench.hub import download, find_cached
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.pin import hub_repos
from hpc_bench.sweep.prefetch import find_download
from hpc_bench.sweep.sweep import Sweep
from hpc_bench.values import HubRepo

__all__ = ["check_inputs"]

CONFIG = "config.json"
FROM_HUB = "huggingface"
"""The adapter that loads models from a hub; what names of models mean to others is theirs to say."""


def check_inputs(sweep: Sweep) -> Iterator[Finding]:
    """The sweep's keys, each model and data set on the hub, and each model's positions."""
    try:
        with in_file(sweep.file):
            manifest, repos = expand_sweep(sweep), hub_repos(sweep)
    except HpcBenchError as error:
        yield wrong("sweep", str(error), "fix the sweep; `submit` would refuse it as well")
        return
    yield ok("sweep", f"{len(manifest.stubs)} stubs")
    commits: dict[str, str] = {}
    for repo in repos:
        if repo.kind == "dataset":
            yield _hub(repo)[0]
        elif sweep.adapter.adapter_name == FROM_HUB:
            finding, commits[repo.name] = _hub(repo)
            yield finding
    for title, model in manifest.header.models.items():
        stubs = [stub for stub in manifest.stubs if stub.model == title]
        config = read_model_json(model.source, CONFIG, commits.get(model.name, model.revision))
        yield from _positions(manifest.header, stubs, positions_of_config({**config, **model.model_kwargs}))


def _hub(repo: HubRepo) -> tuple[Finding, str]:
    """Whether a repository is in the local cache whole, or can be fetched from here, and its commit; a model's
    config.json is in the cache afterwards.
    """
    name = "model" if repo.kind == "model" else "data set"
    try:
        commit, lacking = find_cached(repo)
        if not lacking:
            return ok(name, f"{repo.title} is in the cache (commit {commit[:12]})"), commit
        found = find_download(repo)
        if repo.kind == "model":
            download(repo, found.commit, [CONFIG])
    except HubError as error:
        return Finding(name, "wrong", str(error)), ""  # it names the remedy
    return ok(name, f"{repo.title} can be fetched from here: {found.to_load_shown}"), found.commit


def _positions(header: Header, stubs: Sequence[Stub], most: int | None) -> Iterator[Finding]:
    """A model's positions beside the prompts of its stubs; nothing where `most`, the number of them, is not known."""
    if most is None or not stubs:
        return
    title = stubs[0].model
    needed = {(stub.benchmark, stub.subset): _tokens(header, stub) for stub in stubs}
    too_long = {key: tokens for key, tokens in needed.items() if tokens > most}
    if not too_long:
        yield ok("positions", f"{title}: {most:,}, and no subset needs more than about {max(needed.values()):,}")
        return
    shown = ", ".join(f"{'/'.join(filter(None, key))} about {tokens:,}" for key, tokens in too_long.items())
    remedy = "set request_kwargs.max_context_length so that prompt and answer fit, or exclude these subsets"
    yield wrong("positions", f"{title} has {most:,} positions, but these subsets need more: {shown}", remedy)


def _tokens(header: Header, stub: Stub) -> int:
    """Of a prompt of typical length; where it is cut, of the longest one and its answer."""
    size = header.benchmarks[stub.benchmark].sizes[stub.subset or ""]
    longest = header.request.max_context_length
    if longest is None or size.context_tokens <= longest:
        return size.context_tokens
    return longest + header.generation.limit(size.new_tokens)
