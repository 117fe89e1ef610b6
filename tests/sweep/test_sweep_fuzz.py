"""Sweeps changed at random: whatever comes out, no command shows a traceback, hangs or writes anything."""

from __future__ import annotations

import copy
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hpc_bench.cli import main
from tests.support.fuzzing import HangError, limited, problem_of, seed_chunks

pytestmark = pytest.mark.usefixtures("no_workers")

ODD_VALUES = [
    None, True, False, 0, -1, 1, 10**30, -(10**400), 10**400, 10**5000, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", ".", "..", "../x", "/", "/etc", "~", "~nobody-here", "a" * 300, "a" * 5000, "é", "\u202e", "a\tb", "a\nb",
    "\U0001f600", "\ud800", "\0", "a\0b", "*", "[", "[z-a]", "{}", "%s", "demo/tiny-2l", "2h", "all", "none", "256",
    b"\xff", [], [[]], {}, {"a": {}}, [None], {None: None}, {1: 2}, {"subsets": [256]}, {"name": "demo/tiny-4l"},
    {"sink": 4}, [{"sink": 4}], [{"oracle_top_k": 10**400}], {"sink": {"size": 1}}, {"samples": 10**400},
    {"gpus": 10**30}, {"max_samples": 10**400}, {"temperature": 10**400, "do_sample": True},
    {"max_new_tokens": 10**400}, {"model": "["}, [{"model": "["}], [{"subset": "\0"}],
]  # fmt: skip
FULL = {
    "name": "fuzz",
    "base_result_dir": "results",
    "model_names": ["demo/tiny-2l", {"name": "org/a", "revision": "v1", "gpus": 1, "model_kwargs": {"dtype": "auto"}}],
    "sparse_attention_configs": {"dense": None, "topk": [{"sink": 4}, {"local": {"size": 16}}, {"oracle_top_k": 0.1}]},
    "benchmark_configs": {"needle": {"subsets": [256, 512], "samples": 8}, "mock_benchmark": None},
    "adapter_config": {"adapter_name": "huggingface", "device": "auto", "model_kwargs": {}, "tokenizer_kwargs": {}},
    "generation_kwargs": {"max_new_tokens": 8, "do_sample": True, "temperature": 0.5, "stop_strings": ["x"],
                          "override_limits": True, "enable_thinking": False},
    "request_kwargs": {"max_context_length": 1024, "max_samples": 10, "truncation": "left", "sample_order": "spread"},
    "exclude": [{"model": "*2l*", "attention": "dense"}],
    "include": [{"benchmark": "*"}],
    "max_concurrent_runs": 4,
    "limits": {"stub_timeout": "2h", "max_attempts": 2},
    "local": {"gpus": "none"},
    "slurm": {"partition": "debug", "account": "me", "time": "2h", "gpus_per_node": 1, "cpus_per_task": 4,
              "exclude": "n[1-3]", "setup": ["module load cuda"], "additional_parameters": {"comment": "x"}},
}  # fmt: skip
COMMANDS = (("plan",), ("plan", "--backend", "slurm"), ("submit", "--backend", "slurm", "--dry-run"))


def places(value: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree of lists and mappings, as deep as sweeps go."""
    keys: list[Any] = []
    if isinstance(value, (dict, list)) and depth < 8:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in [(value, key), *places(value[key], depth + 1)]]


def nested(depth: int, value: Any) -> Any:
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def mutate(data: dict[str, Any], rng: random.Random) -> None:
    """Deletes, replaces, inserts, renames, copies or nests something somewhere."""
    container, key = rng.choice(places(data) or [({"": data}, "")])
    odd = copy.deepcopy(rng.choice(FULL_VALUES if rng.random() < 0.3 else ODD_VALUES))
    kind = rng.choice(("delete", "replace", "replace", "replace", "insert", "rename", "copy", "nest"))
    if kind == "delete":
        del container[key]
    elif kind == "replace":
        container[key] = odd
    elif kind == "nest":
        container[key] = nested(rng.choice((1, 2, 50, 120)), container[key])
    elif isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), odd if kind == "insert" else copy.deepcopy(container[key]))
    elif kind == "insert":
        container[rng.choice(ODD_KEYS)] = odd
    elif kind == "rename":
        container[rng.choice(ODD_KEYS)] = container.pop(key)
    else:
        container[rng.choice(list(container))] = copy.deepcopy(container[key])


ODD_KEYS = [value for value in ODD_VALUES if not isinstance(value, (dict, list))]
FULL_VALUES = [container[key] for container, key in places(FULL)]


def as_text(data: dict[str, Any], rng: random.Random) -> bytes:
    """YAML, mostly whole, sometimes with bytes cut, doubled or overwritten."""
    sys.set_int_max_str_digits(10_000)
    try:
        raw = yaml.safe_dump(data, allow_unicode=rng.random() < 0.5, sort_keys=False).encode("utf-8", "surrogatepass")
    finally:
        sys.set_int_max_str_digits(4300)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        start = rng.randrange(len(raw) + 1)
        end = start + rng.randrange(1, 30)
        noise = (b"", raw[start:end] * 2, b"\xff", b"\0", b": ", b"- ", b"!!bool ", b"&a ", b"*a", b"\t", b"? ")
        raw = raw[:start] + rng.choice(noise) + raw[end:]
    return raw


def problems(seed: int) -> list[str]:
    """What goes wrong in one case, in whichever command; in the present folder."""
    rng = random.Random(seed)
    data = yaml.safe_load(yaml.safe_dump(FULL))
    part = data["slurm"] if rng.random() < 0.3 else data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutate(part, rng)
    try:
        raw = as_text(data, rng)
    except RecursionError:  # PyYAML cannot even write it
        return []
    Path("sweep.yaml").write_bytes(raw)
    found = []
    for command in COMMANDS:
        try:
            with limited():
                problem = problem_of(CliRunner().invoke(main, list(command)))
        except HangError as error:
            problem = str(error)
        if problem:
            found.append(f"seed {seed}, {' '.join(command)}, {raw!r}: {problem}")
    if os.listdir() != ["sweep.yaml"]:  # noqa: PTH208
        found.append(f"seed {seed}: {os.listdir()}")  # noqa: PTH208
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder; there is no Slurm."""
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_sweep_that_is_changed_is_right_before(here: Path) -> None:
    (here / "sweep.yaml").write_text(yaml.safe_dump(FULL))

    assert [CliRunner().invoke(main, list(command)).exit_code for command in COMMANDS] == [0] * len(COMMANDS)


@pytest.mark.parametrize("seeds", seed_chunks(), ids=str)
def test_changed_sweeps_never_show_a_traceback(seeds: range, here: Path) -> None:
    found = [problem for seed in seeds for problem in problems(seed)]

    assert not found, f"{len(found)} problems:\n" + "\n".join(found)
    assert sorted(path.name for path in here.parent.iterdir()) == ["here"]
