"""`prefetch` and `offline: true`, through the real huggingface_hub client, from a hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpc_bench.benchmarks.suites.longbench import LongBench
from hpc_bench.errors import HubError, SweepError
from hpc_bench.execution.manifest import read_header
from hpc_bench.hub_files import data_files, lacking_parts, model_files
from hpc_bench.sweep.disk_space import free_bytes, quota_left
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.prefetch import Space, refuse_too_little
from hpc_bench.sweep.sweep import parse_sweep
from tests.support import builders, running
from tests.support.builders import run_cli
from tests.support.fake_hub import DATA, FakeHub, longbench_repo, model_repo, running_hub, use_hub
from tests.support.running import PATIENCE_S

MODEL = "org/tiny"
NOT_READ = {
    "README.md": b"# A model",
    "pytorch_model.bin": b"the same weights again",
    "model.gguf": b"and again",
    "onnx/config.json": b"{}",
    "original/consolidated.00.pth": b"and again",
}


def sweep_keys(**changes: Any) -> dict[str, Any]:
    """One model and two LongBench subsets on the hub, one demo model, one benchmark that needs no data."""
    keys = {
        "model_names": [MODEL, "demo/tiny-2l"],
        "sparse_attention_configs": {"dense": None},
        "benchmark_configs": {"longbench": ["qasper", "musique"], "mock_benchmark": None},
        "offline": True,
    }
    return {**keys, **changes}


def write_hub_sweep(folder: Path, **changes: Any) -> Path:
    return builders.write_sweep(folder, **sweep_keys(**changes))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a model and a data set, and an empty cache."""
    with running_hub() as made:
        made.push(MODEL, {**model_repo(), **NOT_READ})
        made.push(DATA, longbench_repo(tmp_path))
        use_hub(monkeypatch, made, tmp_path / "hf")
        yield made


@dataclass
class Fetched:
    """A cache after `prefetch`, and the hub it came from, which is gone."""

    home: Path
    model_commit: str
    data_commit: str

    def snapshot(self, repo: str) -> Path:
        commit = self.model_commit if repo == MODEL else self.data_commit
        name = f"models--{repo}" if repo == MODEL else repo.replace("datasets/", "datasets--")
        return self.home / "hub" / name.replace("/", "--") / "snapshots" / commit


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeHub, Path]:
    folder = tmp_path_factory.mktemp("prefetched")
    with running_hub() as hub, pytest.MonkeyPatch.context() as monkeypatch:
        hub.push(MODEL, model_repo())
        hub.push(DATA, longbench_repo(folder))
        use_hub(monkeypatch, hub, folder / "hf")
        done = running.hpc_bench("prefetch", str(write_hub_sweep(folder)))
    assert done.returncode == 0, done.stderr
    return hub, folder / "hf"


@pytest.fixture
def fetched(cache: tuple[FakeHub, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    hub, home = cache
    shutil.copytree(home, tmp_path / "hf", symlinks=True)
    use_hub(monkeypatch, hub, tmp_path / "hf")
    return Fetched(tmp_path / "hf", hub.branches[MODEL]["main"], hub.branches[DATA]["main"])


def stamps(folder: Path) -> dict[str, int]:
    """When each file and folder was last changed: a folder, whenever a file is made in it, a short-lived one too."""
    return {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_prefetch_loads_what_a_run_reads_and_no_second_copy_of_the_weights(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")  # a log must be free of bars without it, too
    sweep = write_hub_sweep(tmp_path)

    first = running.hpc_bench("prefetch", str(sweep))
    loaded = sorted(hub.downloads())
    second = running.hpc_bench("prefetch", str(sweep))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    data = [
        "README.md",
        "more/musique.jsonl",
        "qasper/test-00000-of-00002.parquet",
        "qasper/test-00001-of-00002.parquet",
    ]
    assert loaded == sorted([*model_repo(), *data])
    assert sorted(hub.downloads()) == loaded
    assert hub.branches[MODEL]["main"][:12] in first.stdout
    assert "1.0 MB" in first.stdout
    assert "1.0 MB" in second.stdout
    assert second.stdout.count("all there") == 6  # a table row and a line for each of the three
    assert first.stderr == second.stderr == ""


def test_sweep_without_hub_names_has_nothing_to_fetch(hub: FakeHub, tmp_path: Path) -> None:
    sweep = write_hub_sweep(tmp_path, model_names=["demo/tiny-2l"], benchmark_configs={"mock_benchmark": None})

    done = run_cli("prefetch", sweep)

    assert (done.exit_code, done.output) == (0, "nothing to fetch: the sweep names no model or data set on the hub\n")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_names": ["org/tyni"]}, ["model org/tyni at main is not on http", "spelling", "HF_TOKEN"]),
        ({"model_names": [{"name": MODEL, "revision": "v9"}]}, [f"model {MODEL} at v9", "no such revision"]),
        ({"model_names": ["org/gated"]}, ["model org/gated at main is gated", "accept its terms", "HF_TOKEN"]),
        ({"model_names": ["org/empty"]}, ["model org/empty", "lacks a tokenizer and weights (model*.safetensors"]),
        ({"model_names": ["org/a--b"]}, ["model org/a--b at main cannot be on a hub"]),
        ({"benchmark_configs": {"longbench": ["hotpotqa"]}}, ["LongBench (hotpotqa) at main has no test split"]),
        ({"model_names": [{"name": MODEL, "model_kwargs": {"variant": "fp16"}}]}, ["model_names.0: ", ".variant"]),
    ],
    ids=["repository", "revision", "gated", "weights", "name", "configuration", "other files"],
)
def test_prefetch_names_what_the_hub_does_not_give(
    hub: FakeHub, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    hub.push("org/gated", model_repo())
    hub.gated.add("org/gated")
    hub.push("org/empty", {"config.json": b"{}"})

    done = run_cli("prefetch", write_hub_sweep(tmp_path, **changes))

    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "hf" / "hub" / "models--org--tiny").exists()


def test_prefetch_without_network_says_where_it_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as hub:
        pass
    use_hub(monkeypatch, hub, tmp_path / "hf")

    done = running.hpc_bench("prefetch", str(write_hub_sweep(tmp_path)))

    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: model {MODEL} at main cannot be fetched from {hub.url}: ")
    assert "on a machine with internet" in done.stderr


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_everything_missing_is_named_before_anything_is_written(hub: FakeHub, tmp_path: Path, command: str) -> None:
    sweep = write_hub_sweep(tmp_path)

    done = run_cli(command, "--gpus", "none", sweep)

    assert done.exit_code == 2
    assert done.stderr.startswith(
        f"Error: {sweep}: offline: not in the hub's cache {tmp_path}/hf/hub: model {MODEL} at"
    )
    assert "(qasper) at main" in done.stderr
    assert "(musique) at main" in done.stderr
    assert f"run `hpc-bench prefetch {sweep}`" in done.stderr
    assert "demo/" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert hub.requests == []
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("repo", "file"),
    [
        (MODEL, "config.json"),
        (MODEL, "tokenizer.json"),
        (MODEL, "model.safetensors"),
        (DATA, "README.md"),
        (DATA, "qasper/test-00001-of-00002.parquet"),
    ],
)
def test_one_missing_file_is_named(fetched: Fetched, tmp_path: Path, repo: str, file: str) -> None:
    (fetched.snapshot(repo) / file).unlink()

    done = run_cli("plan", write_hub_sweep(tmp_path))

    assert done.exit_code == 2
    assert f"(lacks {file})" in done.stderr
    assert done.stderr.count("lacks") == (2 if file == "README.md" else 1)  # the card is of both configurations


def test_cache_that_others_filled_is_judged_by_its_files(fetched: Fetched, tmp_path: Path) -> None:
    """Without huggingface_hub's list of a repository: a model's index tells its shards, nothing tells a data set's."""
    snapshot = fetched.snapshot(MODEL)
    shutil.rmtree(snapshot.parents[1] / "trees")
    model_only = sweep_keys(benchmark_configs={"mock_benchmark": None})
    whole = run_cli("plan", builders.write_sweep(tmp_path, **model_only))
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    shutil.rmtree(fetched.snapshot(DATA).parents[1] / "trees")

    done = run_cli("plan", write_hub_sweep(tmp_path))

    assert whole.exit_code == 0, whole.stderr
    assert "(lacks model-00002-of-00002.safetensors)" in done.stderr
    assert done.stderr.count("lacks the list of its files") == 2


def test_offline_sweep_pins_commits_in_the_fingerprint_and_others_do_not(fetched: Fetched, tmp_path: Path) -> None:
    keys = builders.sweep_data(tmp_path / "results", **sweep_keys())
    tag = fetched.snapshot(MODEL).parents[1] / "refs" / "v1"
    tag.write_text(fetched.model_commit)

    pinned = expand_sweep(parse_sweep(keys)).header
    by_tag = expand_sweep(parse_sweep({**keys, "model_names": [{"name": MODEL, "revision": "v1"}]})).header
    online = expand_sweep(parse_sweep({**keys, "offline": False})).header

    assert pinned.models[MODEL].revision == fetched.model_commit
    assert pinned.models[MODEL].identity == {"name": MODEL, "revision": fetched.model_commit}
    assert pinned.benchmarks["longbench"].options["revision"] == fetched.data_commit
    assert pinned.benchmarks["longbench"].identities["qasper"]["revision"] == fetched.data_commit
    assert by_tag.models[MODEL] == pinned.models[MODEL]
    assert online.models["demo/tiny-2l"] == pinned.models["demo/tiny-2l"]
    assert online.models[MODEL].revision is None
    assert online.benchmarks["longbench"].options["revision"] == "main"
    assert (pinned.offline, online.offline) == (True, False)


def test_offline_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"^offline: must be true or false"):
        parse_sweep(builders.sweep_data(tmp_path, offline="yes"))


def test_offline_sweep_runs_without_a_hub_and_leaves_its_cache_as_it_is(fetched: Fetched, tmp_path: Path) -> None:
    sweep = write_hub_sweep(
        tmp_path,
        model_names=[MODEL],
        benchmark_configs={"longbench": ["qasper", "musique"]},
        request_kwargs={"max_samples": 3},
        generation_kwargs={"max_new_tokens": 2},
    )
    before = stamps(fetched.home)

    done = running.submit(sweep)

    assert done.returncode == 0, done.stdout + done.stderr
    assert stamps(fetched.home) == before
    header = read_header(running.execution_of(sweep))
    assert header.models[MODEL].revision == fetched.model_commit
    results = [json.loads((path / "stub.json").read_text()) for path in running.results(sweep)]
    assert [facts["subset"] for facts in results] == ["musique", "qasper"]
    for facts in results:
        assert facts["identity"]["model"]["revision"] == fetched.model_commit
        assert facts["identity"]["benchmark"]["revision"] == fetched.data_commit
        assert facts["samples"] == (3 if facts["subset"] == "qasper" else 2)


@pytest.mark.parametrize("offline", [True, False])
def test_engines_of_offline_sweeps_alone_are_told_to_ask_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    sweep = running.write_scripted_sweep(tmp_path, script={"load_seconds": 60}, offline=offline)
    submission = running.start_submit(sweep)
    try:
        worker = running.wait_until(lambda: running.workers_of(sweep))[0]
        engine = running.wait_until(lambda: running.engine_of(worker))
        running.wait_until(lambda: "hpc_bench.running.engine" in engine.cmdline())
        environment = engine.environ()
    finally:
        for process in running.processes_of(sweep):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        submission.communicate(timeout=PATIENCE_S)

    assert environment.get("HF_HUB_OFFLINE") == ("1" if offline else None)
    assert environment.get("HF_MODULES_CACHE", "").startswith(str(tmp_path)) is offline


def test_moved_branch_makes_results_stale_once_it_is_prefetched(hub: FakeHub, tmp_path: Path) -> None:
    keys = sweep_keys(model_names=[MODEL], benchmark_configs={"longbench": ["qasper"]})
    sweep = builders.write_sweep(tmp_path, **keys)
    run_cli("prefetch", sweep)
    builders.publish_all(builders.prepare(tmp_path / "results", **keys))
    old = hub.branches[MODEL]["main"]
    new = hub.push(MODEL, {**model_repo(), "generation_config.json": b"{}"})

    moved = run_cli("plan", sweep)
    hub.requests.clear()
    again = run_cli("prefetch", sweep)
    refused = run_cli("submit", "--gpus", "none", sweep)

    assert "1 complete, 0 stale" in moved.output
    assert hub.downloads() == ["generation_config.json"]
    assert again.exit_code == 0
    assert refused.exit_code == 2
    assert f"1 with model.revision: '{old}' is on disk, '{new}' in the sweep" in refused.stderr


def test_interrupted_prefetch_leaves_the_earlier_commit_usable(hub: FakeHub, tmp_path: Path) -> None:
    sweep = write_hub_sweep(tmp_path)
    run_cli("prefetch", sweep)
    hub.push(MODEL, {**model_repo(), "added.json": b"[]"})
    hub.broken.add("added.json")

    failed = run_cli("prefetch", sweep)

    assert failed.exit_code == 2
    assert f"model {MODEL} at main cannot be fetched" in failed.stderr
    assert run_cli("plan", sweep).exit_code == 0


def test_too_little_free_space_is_refused_before_the_download(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_bench.sweep.prefetch.free_bytes", lambda folder: 1000)

    done = run_cli("prefetch", write_hub_sweep(tmp_path))

    assert done.exit_code == 2
    assert f"1.0 MB to download into {tmp_path}/hf/hub (1.0 kB free): too little free space" in done.stderr
    assert "HF_HOME" in done.stderr
    assert hub.downloads() == ["README.md"]


def test_what_fits_exactly_is_not_refused() -> None:
    refuse_too_little(Space(Path("hf"), needed=10, free=10, quota_left=None))

    with pytest.raises(HubError):
        refuse_too_little(Space(Path("hf"), needed=11, free=10, quota_left=None))


def put_command(folder: Path, name: str, output: str, code: int = 0) -> None:
    """A command on PATH that says something."""
    (folder / f"{name}.out").write_text(output)
    (folder / name).write_text(f'#!/bin/sh\n/bin/cat "{folder}/{name}.out"\nexit {code}\n')
    (folder / name).chmod(0o755)


def test_quota_that_will_not_do_is_a_warning_and_the_download_goes_on(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_command(tmp_path, "quota", QUOTA.format("999900"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    done = run_cli("prefetch", write_hub_sweep(tmp_path))

    assert done.exit_code == 0
    assert "102.4 kB left of the quota" in done.stdout
    assert done.stderr.startswith("Warning: the quota is too small")
    assert "model.safetensors" in hub.downloads()


QUOTA = """Disk quotas for user ann (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
 nas1:/vol/home  {}  1000000 1100000               5       0       0
"""
LUSTRE = """ /scratch/a/very/long/path
                 {}  1000000 1100000       -      12       0       0       -
"""


@pytest.mark.parametrize(
    ("command", "output", "code", "left_kib"),
    [
        ("quota", QUOTA.format("400000"), 0, 600_000),
        ("quota", QUOTA.format("1050000*"), 1, 0),
        ("quota", "Disk quotas for user ann (uid 1000): none\n", 0, None),
        ("quota", " /dev/sda1  400 0 0  5 0 0 \n", 0, None),
        ("quota", " /dev/sda1  400 0 1000  5 0 0 \n", 0, 600),
        ("lfs", LUSTRE.format("400000"), 0, 600_000),
        ("lfs", "Permission denied.\n", 1, None),
    ],
)
def test_quota_commands_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str, code: int, left_kib: int | None
) -> None:
    put_command(tmp_path, command, output, code)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert quota_left(tmp_path / "not" / "there") == (None if left_kib is None else left_kib * 1024)
    assert free_bytes(tmp_path / "not" / "there") > 0


BASE = ["config.json", "tokenizer.json"]


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "flax_model.msgpack"], [0]),
        (["model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"], [0, 1, 2]),
        (["model.safetensors", "pytorch_model.bin.index.json", "pytorch_model-1-of-1.bin"], [0]),
        (["pytorch_model.bin.index.json", "pytorch_model-1-of-1.bin", "tf_model.h5"], [0, 1]),
        (["model.safetensors", "additional_chat_templates/tool.jinja", "chat_template.jinja", "x.py"], [0, 1, 2, 3]),
        (["model.safetensors", "onnx/model.json", "LICENSE", "a.png", "metal/model.bin"], [0]),
    ],
)
def test_one_format_of_the_weights_is_chosen_as_transformers_does(there: list[str], wanted: list[int]) -> None:
    assert model_files([*BASE, *there]) == sorted([*BASE, *(there[index] for index in wanted)])
    assert lacking_parts(model_files([*BASE, *there])) == []


def test_test_split_is_found_by_the_card_or_by_name() -> None:
    paths = ["qasper/test-0.parquet", "qasper/train-0.parquet", "qasper/test.txt.d/x", "all.jsonl", "a/b/test.jsonl"]
    card = {"configs": [{"config_name": "qasper", "data_files": [{"split": "test", "path": ["./all.jsonl"]}]}]}

    assert data_files(paths, {}, "qasper") == ["qasper/test-0.parquet"]
    assert data_files(paths, card, "qasper") == ["all.jsonl"]
    assert data_files(paths, {"configs": [{"config_name": "qasper", "data_files": "all.jsonl"}]}, "nothing") == []
    deep = {"configs": [{"config_name": "q", "data_files": [{"split": "test", "path": "a/**/test*"}]}]}
    assert data_files(paths, deep, "q") == ["a/b/test.jsonl"]


def test_rows_of_the_hub_come_in_the_order_of_the_files(fetched: Fetched) -> None:
    samples = LongBench().load("qasper", len)

    assert [(s.sample_id, s.context) for s in samples] == [
        ("0000", "text 0.0"),
        ("0001", "text 0.1"),
        ("0002", "text 1.0"),
        ("0003", "text 1.1"),
    ]
    assert samples == LongBench(revision=fetched.data_commit).load("qasper", len)


def test_rows_are_downloaded_where_the_hub_can_be_reached(hub: FakeHub) -> None:
    (first, _) = LongBench().load("musique", len)

    assert first.context == "story 0"
    assert sorted(hub.downloads()) == ["README.md", "more/musique.jsonl"]
