"""What a sweep means, given what is on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.errors import PlanError, SweepError
from hpc_bench.execution.fingerprint import identity_of
from hpc_bench.execution.folder import ExecutionDir, sanitize
from hpc_bench.execution.manifest import Manifest, read_header, read_manifest, write_manifest
from hpc_bench.running.submit import prepare_execution
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.plan import Plan, make_plan, refuse_stale
from hpc_bench.sweep.stale import discard_stale
from hpc_bench.sweep.sweep import parse_sweep
from tests.support.builders import (
    claim,
    fail,
    prepare,
    publish,
    publish_all,
    rewrite_json,
    run_cli,
    stubs_of,
    sweep_data,
    tree,
    write_sweep,
)


def plan_of(base: Path, *, new: bool = False, retry_failed: bool = False, **changes: Any) -> Plan:
    return make_plan(parse_sweep(sweep_data(base, **changes)), new=new, retry_failed=retry_failed)


def counts(plan: Plan) -> dict[str, int]:
    states = ("complete", "failed", "running", "pending")
    found = {state: len(plan.with_state(state)) for state in states}  # type: ignore[arg-type]
    return {state: count for state, count in {**found, "stale": len(plan.stale)}.items() if count}


# Expansion


def test_order_is_model_attention_benchmark_subset_as_in_the_sweep(tmp_path: Path) -> None:
    stubs = expand_sweep(parse_sweep(sweep_data(tmp_path, model_names=["org/zeta", "org/alpha"]))).stubs

    assert [stub.title for stub in stubs] == [
        f"{model}/{attention}/{benchmark}"
        for model in ("org/zeta", "org/alpha")
        for attention in ("dense", "streaming")
        for benchmark in ("needle/256", "needle/512", "mock_benchmark")
    ]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta_llama_Llama_3.1_8B_Instruct"),
        ("a b+c", "a_b_c"),
        ("..hidden", "__hidden"),
        (".x.y", "_x.y"),
        ("naïve", "na_ve"),
        ("plain_1.0", "plain_1.0"),
        ("../../etc", "___.._etc"),
    ],
)
def test_sanitized_names_hold_letters_digits_dots_and_underscores(name: str, folder: str) -> None:
    assert sanitize(name) == folder


def test_result_folder_is_model_then_config_then_benchmark_and_subset(tmp_path: Path) -> None:
    models = ["meta-llama/Llama-3.1-8B-Instruct"]

    stubs = expand_sweep(parse_sweep(sweep_data(tmp_path, model_names=models))).stubs

    assert stubs[0].result_path == "meta_llama_Llama_3.1_8B_Instruct/dense/needle_256"
    assert stubs[2].result_path == "meta_llama_Llama_3.1_8B_Instruct/dense/mock_benchmark"


def test_local_model_is_shown_by_its_last_folder_and_a_hash(tmp_path: Path) -> None:
    folder = tmp_path / "secret" / "my-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")

    first = expand_sweep(parse_sweep(sweep_data(tmp_path, model_names=[str(folder)]))).stubs[0]
    (folder / "config.json").write_text('{"layers": 3}')
    second = expand_sweep(parse_sweep(sweep_data(tmp_path, model_names=[str(folder)]))).stubs[0]

    assert first.model.startswith("my-model-")
    assert "secret" not in first.result_path
    assert first.model != second.model


def test_names_sharing_a_folder_only_within_different_places_are_fine(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, sparse_attention_configs={"needle": None, "org_alpha": None})

    assert len({stub.result_path for stub in plan.manifest.stubs}) == 12


# Fingerprints


def first_fingerprint(base: Path, **changes: Any) -> str:
    return expand_sweep(parse_sweep(sweep_data(base, **{**STREAMING, **changes}))).stubs[0].fingerprint


STREAMING: dict[str, Any] = {
    "model_names": ["org/alpha"],
    "sparse_attention_configs": {"streaming": [{"sink": 4}, {"local": 64}]},
    "benchmark_configs": {"needle": [256]},
}
SAME: list[dict[str, Any]] = [
    {"name": "another"},
    {"base_result_dir": "elsewhere"},
    {"max_concurrent_runs": 7},
    {"limits": {"stub_timeout": "1m", "max_attempts": 9, "lease": "60s"}},
    {"local": {"gpus": [3]}},
    {"slurm": {"partition": "long"}},
    {"model_names": [{"name": "org/alpha", "gpus": 2}]},
    {"model_names": [{"name": "org/alpha", "revision": "main"}]},
    {"adapter_config": {"device": "cpu"}},
    {"adapter_config": {"adapter_name": "huggingface"}},
    {"sparse_attention_configs": {"renamed": [{"sink": {"size": 4}}, {"local": 64}], "dense": None}},
    {"model_names": ["org/alpha", "org/beta"]},
    {"benchmark_configs": {"needle": {"subsets": ["256", 512], "samples": 100}, "mock_benchmark": None}},
    {"generation_kwargs": {"do_sample": False}},
    {"generation_kwargs": {"override_limits": False, "enable_thinking": None}},
    {"request_kwargs": {"truncation": None, "sample_order": "first"}},
    {"exclude": [{"benchmark": "mock_benchmark"}], "benchmark_configs": {"needle": [256], "mock_benchmark": None}},
    {"include": [{"model": "*"}]},
    {"request_kwargs": {"max_samples": 5, "sample_order": "spread"}},
]
DIFFERENT: list[dict[str, Any]] = [
    {"model_names": ["org/beta"]},
    {"model_names": [{"name": "org/alpha", "revision": "v2"}]},
    {"model_names": [{"name": "org/alpha", "model_kwargs": {"dtype": "float16"}}]},
    {"model_names": [{"name": "org/alpha", "trust_remote_code": True}]},
    {"adapter_config": {"model_kwargs": {"dtype": "float16"}}},
    {"adapter_config": {"tokenizer_kwargs": {"padding_side": "left"}}},
    {"sparse_attention_configs": {"streaming": [{"sink": 5}, {"local": 64}]}},
    {"sparse_attention_configs": {"streaming": [{"sink": 4}, {"local": 0.5}]}},
    {"sparse_attention_configs": {"streaming": [{"local": 64}, {"sink": 4}]}},
    {"sparse_attention_configs": {"streaming": [{"sink": 4}]}},
    {"sparse_attention_configs": {"streaming": None}},
    {"benchmark_configs": {"needle": [512]}},
    {"benchmark_configs": {"needle": {"subsets": [256], "samples": 99}}},
    {"benchmark_configs": {"needle": {"subsets": [256], "seed": 1}}},
    {"benchmark_configs": {"mock_benchmark": None}},
    {"generation_kwargs": {"max_new_tokens": 9}},
    {"generation_kwargs": {"do_sample": True, "temperature": 0.7}},
    {"generation_kwargs": {"seed": 1}},
    {"generation_kwargs": {"stop_strings": ["\n"]}},
    {"request_kwargs": {"max_context_length": 1000}},
    {"request_kwargs": {"max_context_length": 1000, "truncation": "left"}},
    {"request_kwargs": {"max_context_length": 1000, "truncation": "right"}},
    {"generation_kwargs": {"max_new_tokens": 9, "override_limits": True}},
    {"generation_kwargs": {"enable_thinking": True}},
    {"generation_kwargs": {"enable_thinking": False}},
]
# Results of this format stay valid: what is new may change these only together with a version that says so.
PINNED: list[tuple[dict[str, Any], str]] = [
    ({}, "f88acc170a8162168e9a87962db2ea7dac720b7212c5a23f4b84591187820032"),
    (
        {"generation_kwargs": {"max_new_tokens": 9, "stop_strings": ["\n"]}},
        "eb56d5db7e4fffb812f596d02e7b61d19d2f4ebe0c58e888d6a25345dd75b1e7",
    ),
    (
        {"generation_kwargs": {"do_sample": True, "seed": 1}},
        "8e3f2c639b760817a27a5505392f2c5c7670b686bf402fc1d765e84f511fb69a",
    ),
    (
        {"benchmark_configs": {"mock_benchmark": None}},
        "3d3ec8fe34be972c1859eb731fdaae5160023b175c47c8b060486b0770cf7cb2",
    ),
]


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_what_cannot_change_an_answer_leaves_the_fingerprint(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert first_fingerprint(tmp_path, **changes) == first_fingerprint(tmp_path)


def test_whatever_can_change_an_answer_changes_the_fingerprint(tmp_path: Path) -> None:
    fingerprints = [first_fingerprint(tmp_path, **changes) for changes in ({}, *DIFFERENT)]

    twice = [str(({}, *DIFFERENT)[i]) for i, one in enumerate(fingerprints) if fingerprints.count(one) > 1]
    # The same dtype, said for one model or for all of them, is the same thing.
    assert twice == [str(DIFFERENT[2]), str(DIFFERENT[4])]


@pytest.mark.parametrize(("changes", "fingerprint"), PINNED)
def test_fingerprints_are_those_of_earlier_results(tmp_path: Path, changes: dict[str, Any], fingerprint: str) -> None:
    assert first_fingerprint(tmp_path, **changes) == fingerprint


def test_benchmarks_own_truncation_may_be_spelled_out(tmp_path: Path) -> None:
    limit = {"max_context_length": 1000}

    left_out, spelled_out = (
        first_fingerprint(tmp_path, request_kwargs=request) for request in (limit, {**limit, "truncation": "middle"})
    )

    assert left_out == spelled_out


@pytest.mark.parametrize(
    ("benchmark", "own", "other"),
    [({"mock_benchmark": None}, "assistant", "user"), ({"longbench": ["qasper"]}, "user", "assistant")],
)
def test_benchmarks_own_place_of_the_answer_prefix_may_be_spelled_out(
    tmp_path: Path, benchmark: dict[str, Any], own: str, other: str
) -> None:
    left_out = first_fingerprint(tmp_path, benchmark_configs=benchmark)

    spelled_out, changed = (
        first_fingerprint(tmp_path, benchmark_configs=benchmark, request_kwargs={"answer_prefix": place})
        for place in (own, other)
    )

    assert left_out == spelled_out != changed


def test_answer_prefix_before_a_thought_is_refused(tmp_path: Path) -> None:
    asked = {"generation_kwargs": {"enable_thinking": True}, "request_kwargs": {"answer_prefix": "assistant"}}

    with pytest.raises(SweepError, match=r"request_kwargs\.answer_prefix: cannot be assistant with .*set it to user"):
        first_fingerprint(tmp_path, **asked)


def test_fingerprint_is_the_digest_of_the_identity_and_stable_over_processes(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    code = (
        "from pathlib import Path;from hpc_bench.sweep.sweep import load_sweep;"
        "from hpc_bench.sweep.expand import expand_sweep;"
        "print(*[stub.fingerprint for stub in expand_sweep(load_sweep(Path('sweep.yaml'))).stubs])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 12


# The manifest


def test_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = expand_sweep(parse_sweep(sweep_data(tmp_path, exclude=[{"model": "*beta", "attention": "dense"}])))
    execution = ExecutionDir.create(tmp_path)

    write_manifest(execution, manifest)

    assert read_manifest(execution) == Manifest(read_header(execution), manifest.stubs)
    assert read_manifest(execution).stubs == manifest.stubs
    assert [identity_of(read_manifest(execution).header, stub) for stub in manifest.stubs] == [
        identity_of(manifest.header, stub) for stub in manifest.stubs
    ]
    assert list(read_header(execution).attentions) == ["dense", "streaming"]


def test_earlier_manifests_are_kept_whole(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    first = execution.manifest.read_text()
    prepare(tmp_path, model_names=["org/gamma"])
    second = execution.manifest.read_text()
    prepare(tmp_path)

    assert (execution.path / "manifest.1.jsonl").read_text() == first
    assert (execution.path / "manifest.2.jsonl").read_text() == second
    assert not (execution.path / "manifest.3.jsonl").exists()
    assert [path.name for path in tmp_path.glob("[!.]*")] == [execution.path.name]


# Resuming


def test_new_sweep_is_all_to_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)

    assert plan.execution is None
    assert counts(plan) == {"pending": 12}


def test_published_results_are_complete_and_not_run_again(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    done = stubs_of(execution)[3:8]
    for stub in done:
        publish(execution, stub)

    plan = plan_of(tmp_path)

    assert plan.execution == execution
    assert counts(plan) == {"complete": 5, "pending": 7}
    assert plan.with_state("complete") == list(done)
    assert not {stub.key for stub in plan.to_run} & {stub.key for stub in done}


def test_grown_sweep_runs_only_what_is_new(tmp_path: Path) -> None:
    publish_all(prepare(tmp_path))

    plan = plan_of(tmp_path, model_names=["org/gamma", "org/alpha", "org/beta"])

    assert counts(plan) == {"complete": 12, "pending": 6}
    assert {stub.model for stub in plan.to_run} == {"org/gamma"}


def test_shrunk_sweep_leaves_the_other_results_on_disk(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)
    before = tree(tmp_path)

    plan = plan_of(tmp_path, model_names=["org/beta"])

    assert counts(plan) == {"complete": 6}
    assert tree(tmp_path) == before


def test_sweep_of_another_name_starts_an_execution_of_its_own(tmp_path: Path) -> None:
    publish_all(prepare(tmp_path))

    assert plan_of(tmp_path, name="other").execution is None


def test_new_ignores_what_is_there(tmp_path: Path) -> None:
    publish_all(prepare(tmp_path))

    plan = plan_of(tmp_path, new=True)

    assert plan.execution is None
    assert counts(plan) == {"pending": 12}


def test_newest_execution_of_the_name_is_resumed(tmp_path: Path) -> None:
    prepare(tmp_path).path.rename(tmp_path / "execution_20200101_000000")
    prepare(tmp_path, name="other").path.rename(tmp_path / "execution_20230101_000000")
    (tmp_path / "execution_20250101_000000").mkdir()

    plan = plan_of(tmp_path)

    assert plan.execution == ExecutionDir(tmp_path / "execution_20200101_000000")


def test_mean_seconds_of_complete_siblings_are_the_estimate(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    rewrite_json(publish(execution, stub) / "stub.json", seconds=10.0)
    sibling = next(other for other in stubs_of(execution)[1:] if other.bundle == stub.bundle)
    rewrite_json(publish(execution, sibling) / "stub.json", seconds=20.0)

    assert plan_of(tmp_path).manifest.header.measured == {"org/alpha/needle/256": 15.0}


# Failures


def test_failed_attempts_are_repeated_until_they_are_used_up(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    once, twice, released = stubs_of(execution)[:3]
    fail(execution, once)
    fail(execution, twice, attempts=2)

    plan = plan_of(tmp_path)

    assert counts(plan) == {"failed": 1, "pending": 11}
    assert plan.with_state("failed") == [twice]
    assert once in plan.to_run
    assert released in plan.to_run


def test_more_attempts_in_the_sweep_revive_failed_stubs(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    fail(execution, stubs_of(execution)[0], attempts=2)

    assert counts(plan_of(tmp_path, limits={"max_attempts": 3})) == {"pending": 12}


def test_retry_failed_gives_new_attempts_once(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub, attempts=2)

    plan = plan_of(tmp_path, retry_failed=True)
    write_manifest(execution, plan.manifest)

    assert counts(plan) == {"pending": 12}
    assert counts(plan_of(tmp_path)) == {"pending": 12}
    fail(execution, stub, attempts=1)
    assert counts(plan_of(tmp_path)) == {"pending": 12}
    fail(execution, stub, attempts=1)
    assert counts(plan_of(tmp_path)) == {"failed": 1, "pending": 11}


def test_fresh_claim_of_an_unknown_worker_is_running(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    claim(execution, stubs_of(execution)[0])

    assert counts(plan_of(tmp_path)) == {"running": 1, "pending": 11}


def test_claim_older_than_the_lease_without_a_worker_is_free(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    os.utime(execution.claim(stub.key, claim(execution, stub).attempt), (0, 0))

    assert counts(plan_of(tmp_path)) == {"pending": 12}


# Stale results


def test_stale_results_are_refused_with_each_differing_field(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)
    changed = {"generation_kwargs": {"max_new_tokens": 9}, "request_kwargs": {"max_samples": 4}}
    before = tree(tmp_path)

    plan = plan_of(tmp_path, **changed)

    assert counts(plan) == {"stale": 12}
    assert plan.to_run == []
    with pytest.raises(PlanError) as caught:
        refuse_stale(plan)
    message = str(caught.value)
    for words in (
        f"12 complete results of {execution.path}",
        "generation.max_new_tokens: None is on disk, 9 in the sweep",
        "request.max_samples: None is on disk, 4 in the sweep",
        "--new",
        "--discard-stale",
    ):
        assert words in message
    assert tree(tmp_path) == before


def test_invalid_result_is_named_as_such(tmp_path: Path) -> None:
    execution = prepare(tmp_path / "results")
    result = publish(execution, stubs_of(execution)[0])
    (result / "raw_results.csv").unlink()
    path = write_sweep(tmp_path)

    shown = run_cli("plan", "--gpus", "none", path).stdout.replace("\n", "")
    refused = run_cli("submit", "--gpus", "none", path).stderr

    assert "invalid: org/alpha/dense/needle/256: " in shown
    assert "stale: org" not in shown
    assert f"invalid result: {result}: cannot be read" in refused
    assert "not what the sweep asks for" not in refused


def test_changed_masker_makes_only_its_own_results_stale(tmp_path: Path) -> None:
    publish_all(prepare(tmp_path))

    plan = plan_of(tmp_path, sparse_attention_configs={"dense": None, "streaming": [{"sink": 8}, {"local": 64}]})

    assert counts(plan) == {"complete": 6, "stale": 6}
    assert {item.stub.attention for item in plan.stale} == {"streaming"}


def test_stale_results_do_not_enter_the_estimate(tmp_path: Path) -> None:
    publish_all(prepare(tmp_path))

    plan = plan_of(tmp_path, request_kwargs={"max_samples": 1})

    assert plan.manifest.header.measured == {}


def test_discard_stale_moves_results_aside_and_deletes_nothing(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)
    before = tree(execution.path)
    changes = {"sparse_attention_configs": {"dense": None, "streaming": [{"sink": 8}]}}

    moved = discard_stale(execution, plan_of(tmp_path, **changes).stale)

    after = tree(execution.path)
    assert moved.parent == execution.state / "discarded"
    assert sorted(content for content in before.values() if content) == sorted(c for c in after.values() if c)
    (aside,) = (execution.state / "discarded").iterdir()
    assert len(list(aside.rglob("metrics.json"))) == 6
    assert counts(plan_of(tmp_path, **changes)) == {"complete": 6, "pending": 6}


def test_discarded_corrupt_result_is_run_again(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    result = publish(execution, stubs_of(execution)[0])
    (result / "metrics.json").write_text("")
    os.utime(execution.claim(stubs_of(execution)[0].key, 1), (0, 0))

    discard_stale(execution, plan_of(tmp_path).stale)

    assert counts(plan_of(tmp_path)) == {"pending": 12}


def test_nothing_to_discard_makes_no_folder(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    before = tree(execution.path)

    discard_stale(execution, plan_of(tmp_path).stale)

    assert tree(execution.path) == before


# The command


def test_plan_writes_nothing(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    fresh = tree(tmp_path)
    for options in ((), ("--json",), ("--new",), ("--retry-failed",)):
        assert run_cli("plan", "--gpus", "none", *options, path).exit_code == 0
        assert tree(tmp_path) == fresh

    execution = prepare(tmp_path / "results")
    publish(execution, stubs_of(execution)[0])
    fail(execution, stubs_of(execution)[1], attempts=2)
    resumed = tree(tmp_path)
    for options in ((), ("--json",), ("--new",), ("--retry-failed",)):
        assert run_cli("plan", "--gpus", "none", *options, path).exit_code == 0
        assert tree(tmp_path) == resumed


def test_plan_as_json(tmp_path: Path) -> None:
    execution = prepare(tmp_path / "results")
    first, second, third = stubs_of(execution)[:3]
    publish(execution, first)
    fail(execution, second, attempts=2)
    claim(execution, third)
    path = write_sweep(tmp_path)

    data = json.loads(run_cli("plan", "--gpus", "none", "--json", path).stdout)

    assert data["backends"]["local"].pop("estimated_gpu_hours") > 0
    assert data == {
        "name": "tiny",
        "execution": str(execution.path),
        "stubs": 12,
        "complete": 1,
        "scored_otherwise": 0,
        "stale": 0,
        "failed": 1,
        "running": 1,
        "to_run": 9,
        "backends": {"local": {"bundles": 6, "workers": 1}},
        "unused_generation_config": {},
        "other_environments": [],
    }


def test_plan_for_people_shows_counts_table_and_workers(tmp_path: Path) -> None:
    execution = prepare(tmp_path / "results")
    result = publish(execution, stubs_of(execution)[0])
    rewrite_json(result / "stub.json", fingerprint="of something else", identity={})
    publish(execution, stubs_of(execution)[1], score=1.0)
    path = write_sweep(tmp_path, max_concurrent_runs=2)

    output = run_cli("plan", "--gpus", "none", path).stdout

    assert f"tiny: 12 stubs, resumes {execution.path}" in output.replace("\n", "")
    assert "1 complete, 1 stale, 0 failed, 0 running, 10 to run" in output
    assert "org/alpha" in output
    assert "1 / 3" in output
    assert "3 / 3" in output
    assert "2 workers on the CPU" in output
    assert "stale: org/alpha/dense/needle/256" in output


def test_table_leaves_excluded_cells_empty_of_numbers(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, exclude=[{"model": "*beta", "attention": "streaming"}])

    output = run_cli("plan", "--gpus", "none", path).stdout

    assert "org/beta  │ 3 / 3 │ -" in output


def test_complete_sweep_has_nothing_to_run(tmp_path: Path) -> None:
    publish_all(prepare(tmp_path / "results"))

    output = run_cli("plan", "--gpus", "none", write_sweep(tmp_path)).stdout

    assert "12 complete" in output
    assert "nothing to run" in output
    assert "rough guess" not in output


def test_sweeps_whose_names_sanitize_alike_get_an_execution_each(tmp_path: Path) -> None:
    """Both were planned before the other one was submitted."""
    plans = [plan_of(tmp_path, name=name) for name in ("llama-8b", "llama_8b")]

    executions = [prepare_execution(plan) for plan in plans]

    assert [read_header(execution).name for execution in executions] == ["llama-8b", "llama_8b"]
