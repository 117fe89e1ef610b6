"""Secrets never reach a file: a sweep, a profile or a command line that holds one is refused, and never quoted."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_bench import AdapterConfig, BenchmarkConfig, BenchmarkExecutor
from hpc_bench.errors import SweepError
from hpc_bench.execution.attempts.claims import Outcome, read_outcome, write_outcome
from hpc_bench.execution.heartbeat import Heartbeat, read_workers, this_process, write_heartbeat
from hpc_bench.execution.slot import Slot
from hpc_bench.running.engine.pipe import cause_of
from hpc_bench.running.slurm.environment import inherited
from hpc_bench.sweep.slurm_section import SlurmSection
from tests.support.builders import MODELS, claim, prepare, run_cli, stubs_of, sweep_data, tree, write_keys, write_sweep
from tests.support.refusals import assert_refused

SECRET = "Zq81xSecretXyw77PlumVv04Kt"
HUB = f"hf_{SECRET}"
SHAPED = {
    "token of the hub": (HUB, "HF_TOKEN"),
    "older token of the hub": (f"api_org_{SECRET}", "HF_TOKEN"),
    "token amid a text": (f"curl -H 'X: {HUB}' https://example.org", "HF_TOKEN"),
    "key of an API": (f"sk-proj-{SECRET}", "variable that its library reads"),
    "token of GitHub": (f"ghp_{SECRET}", "variable that its library reads"),
    "header": (f'curl -H "Authorization: Bearer {SECRET}"', "variable that its library reads"),
    "proxy": (f"http://me:{SECRET}@proxy.example.org:3128", "HTTPS_PROXY"),
    "proxy without a user": (f"http://:{SECRET}@proxy.example.org:3128", "HTTPS_PROXY"),
    "slash in a password": (f"https://me:p/{SECRET}@example.org", "HTTPS_PROXY"),
    "proxy without a scheme": (f"export https_proxy=me:{SECRET}@proxy:3128", "HTTPS_PROXY"),
    "exported": (f"export HF_TOKEN={SECRET}", "set HF_TOKEN in the shell"),
    "exported in quotes": (f'export HF_TOKEN="{SECRET}"', "set HF_TOKEN in the shell"),
    "exported in single quotes": (f"export my_token='$x{SECRET}'", "set my_token in the shell"),
    "set for one command": (f"WANDB_API_KEY={SECRET} wandb login", "set WANDB_API_KEY in the shell"),
    "among other exports": (f"export A=1 PGPASSWORD={SECRET}", "set PGPASSWORD in the shell"),
    "option": (f"huggingface-cli login --token {SECRET}", "gives --token a value"),
}
KEYS = (
    *("token", "TOKEN", "hub_token", "hubToken", "HUB-TOKEN", "hf_token", "use_auth_token", "access_token", "api_key"),
    *("apiKey", "password", "passwd", "Authorization", "secret", "client_secret", "credentials", "WANDB_API_KEY"),
)
INNOCENT_KEYS: dict[str, Any] = {
    "max_new_tokens": 5,
    "tokenizer_kwargs": {"a": "b"},
    "eos_token": "</s>",
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "[MASK]",
    "image_token": "<image>",
    "pad_token_id": 0,
    "eos_token_id": [1, 2],
    "token_type_ids": True,
    "add_special_tokens": False,
    "additional_special_tokens": ["<a>", "<b>"],
    "tokens_per_page": 16,
    "num_tokens": 7,
    "key": "value",
    "keys": ["a"],
    "secretary": "Anna",
    "passkey": "passkey",
    "password_file": "~/.pw",
    "author": "me",
    "authors": ["me"],
    "headers": {"Accept": "text/plain"},
    "token": None,
    "tokenizer_class": "PreTrainedTokenizerFast",
}
INNOCENT_TEXTS = (
    "hf_transfer",
    "hf_my_short_name_of_a_folder_with_underscores",
    "sk-learn-style-top-k-2048-blocks",
    "task-16-0123456789abcdefghij",
    "http://proxy.example.org:3128",
    "http://example.org:8080/path/me@home",
    "https://me@example.org/data",
    "http://me:$PROXY_PASSWORD@proxy:3128",
    "me@example.org",
    "org/model:tag@main",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "export HF_TOKEN=$MY_TOKEN",
    'export HF_TOKEN="$MY_TOKEN"',
    "export HF_TOKEN=$(cat ~/.token)",
    "export HF_TOKEN=${MY_TOKEN}",
    "export HF_TOKEN=`cat ~/.token`",
    "export HF_TOKEN",
    "export HF_TOKEN=",
    "export HF_TOKEN_PATH=~/.token",
    "export TOKENIZERS_PARALLELISM=false",
    "export HF_HOME=/scratch/me",
    "huggingface-cli login --token $HF_TOKEN",
    "vllm serve --max-num-batched-tokens 2048",
    'test "$HF_TOKEN" = "" && exit 1',
    "The secret password is hidden in the text. What is the token?",
)


def with_model_kwargs(folder: Path, kwargs: dict[str, Any]) -> Path:
    return write_sweep(folder, model_names=[{"name": MODELS[0], "model_kwargs": kwargs}])


@pytest.mark.parametrize("case", SHAPED)
def test_what_is_shaped_like_a_secret_is_refused_at_any_depth(tmp_path: Path, case: str) -> None:
    value, remedy = SHAPED[case]
    sweep = with_model_kwargs(tmp_path, {"a": [{"b": ["x", value]}]})

    refused = run_cli("plan", sweep)

    assert_refused(refused, f"{sweep}: model_names.0.model_kwargs.a.0.b.1: ", remedy)
    assert SECRET not in refused.output


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [SECRET, [SECRET], 4711])
def test_key_of_a_secret_is_refused_at_any_depth(tmp_path: Path, key: str, value: Any) -> None:
    sweep = with_model_kwargs(tmp_path, {"deep": {"headers": {key: value}}})

    refused = run_cli("plan", sweep)

    assert_refused(refused, f"{sweep}: model_names.0.model_kwargs.deep.headers.{key}: ", "HF_TOKEN")
    assert SECRET not in refused.output
    assert "4711" not in refused.output


@pytest.mark.parametrize(
    "keys",
    [
        {"hub_token": SECRET},
        {"name": HUB},
        {"base_result_dir": f"/tmp/{HUB}"},
        {"model_names": [HUB]},
        {"model_names": HUB},
        {"sparse_attention_configs": {HUB: None}},
        {"benchmark_configs": {"needle": [HUB]}},
        {"benchmark_configs": {"mine": {"data": f"https://me:{SECRET}@example.org/x.jsonl", "metric": "qa_f1"}}},
        {"adapter_config": {"token": SECRET}},
        {"limits": {"stub_timeout": HUB}},
        {"slurm": {"setup": f"export HF_TOKEN={SECRET}"}},
        {"slurm": {"additional_parameters": {"comment": HUB}}},
        {"exclude": [{"model": HUB}]},
    ],
)
def test_secrets_are_found_before_anything_would_quote_them(tmp_path: Path, keys: dict[str, Any]) -> None:
    refused = run_cli("plan", write_sweep(tmp_path, **keys))

    assert_refused(refused, "sweep.yaml: ")
    assert SECRET not in refused.output


@pytest.mark.parametrize(
    "text",
    [
        "token: 0471112",
        "a: {hub_token: 1_234_567}",
        f"{HUB}: 1\n{HUB}: 2",
        f"a: !{HUB} x",
        f"a: *{HUB}",
    ],
)
def test_errors_of_yaml_quote_no_secrets(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.yaml").write_text(text)

    refused = run_cli("plan", tmp_path / "sweep.yaml")

    assert_refused(refused, "sweep.yaml: ")
    for secret in (SECRET, "0471112", "1_234_567"):
        assert secret not in refused.output


@pytest.mark.parametrize(
    "change",
    [
        f"slurm.setup=['export HF_TOKEN={SECRET}']",
        f"adapter_config.model_kwargs.hub_token={SECRET}",
        "adapter_config.model_kwargs.hub_token=04711",
        f"adapter_config.model_kwargs={{headers: {{Authorization: {SECRET}}}}}",
        f"slurm.additional_parameters.comment={HUB}",
        HUB,
    ],
)
@pytest.mark.parametrize("command", ["plan", "submit"])
def test_set_takes_no_secrets(tmp_path: Path, command: str, change: str) -> None:
    refused = run_cli(command, "--set", change, write_sweep(tmp_path))

    assert_refused(refused)
    assert SECRET not in refused.output
    assert "04711" not in refused.output
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("keys", [{"setup": [f"export HF_TOKEN={SECRET}"]}, {"setup": HUB}, {"token": SECRET}])
def test_profile_holds_no_secrets(tmp_path: Path, keys: dict[str, Any]) -> None:
    (tmp_path / "profile.yaml").write_text(json.dumps(keys))

    refused = run_cli("plan", write_sweep(tmp_path, slurm={"profile": "./profile.yaml"}))

    assert_refused(refused, "slurm.profile: ", "profile.yaml: ", "HF_TOKEN")
    assert SECRET not in refused.output


def test_python_takes_no_secrets(tmp_path: Path) -> None:
    executor = BenchmarkExecutor([], 1, str(tmp_path / "results"))

    with pytest.raises(SweepError, match=r"model_kwargs\.token: .*HF_TOKEN") as refused:
        executor.run_benchmark_matrix(
            MODELS, [("dense", None)], [BenchmarkConfig("mock_benchmark")], AdapterConfig(model_kwargs={"token": HUB})
        )

    assert SECRET not in str(refused.value)
    assert not (tmp_path / "results").exists()


def test_lists_that_hold_themselves_end(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    executor = BenchmarkExecutor([], 1, str(tmp_path / "results"))

    with pytest.raises(SweepError, match="plain YAML data"):
        executor.plan_matrix(
            MODELS, [("dense", None)], [BenchmarkConfig("mock_benchmark")], AdapterConfig(model_kwargs={"a": endless})
        )


def test_innocent_keys_and_texts_stay_accepted(tmp_path: Path) -> None:
    kwargs = {**INNOCENT_KEYS, "texts": list(INNOCENT_TEXTS), "nested": [{"deeper": copy.deepcopy(INNOCENT_KEYS)}]}
    data = sweep_data(
        tmp_path / "results",
        model_names=[{"name": MODELS[0], "model_kwargs": kwargs}],
        sparse_attention_configs={"dense": None, "token": [{"sink": 4}], "password": {"maskers": [{"sink": 4}]}},
        adapter_config={"tokenizer_kwargs": copy.deepcopy(INNOCENT_KEYS)},
        slurm={"setup": [text for text in INNOCENT_TEXTS if text.startswith("export")]},
    )

    planned = run_cli("plan", write_keys(tmp_path, data))

    assert planned.exit_code == 0, planned.output


def test_command_in_the_manifest_holds_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["mine.py", "--token", SECRET, f"--hub-token={SECRET}", f"HF_TOKEN={SECRET}", f"http://me:{SECRET}@x", "-v"]
    monkeypatch.setattr(sys, "argv", words)

    execution = prepare(tmp_path / "results")

    command = json.loads(execution.manifest.read_text().splitlines()[0])["provenance"]["command"]
    assert command == "mine.py --token '***' '--hub-token=***' 'HF_TOKEN=***' 'http://me:***@x' -v"
    assert SECRET.encode() not in b"".join(content or b"" for content in tree(tmp_path).values())


def test_recorded_variables_of_slurm_hold_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_COMMENT", f"token {HUB}")

    assert inherited(SlurmSection())["SBATCH_COMMENT"] == "token hf_***"


def test_outcomes_and_heartbeats_quote_no_secrets(tmp_path: Path) -> None:
    execution = prepare(tmp_path / "results")
    said = f"401 for https://me:{SECRET}@hub/x with {HUB}, sk-{SECRET} and Authorization: Bearer {SECRET}"
    cause = cause_of(RuntimeError(said))
    write_outcome(execution, claim(execution, stubs_of(execution)[0]), Outcome("failed", "E", said, f"log: {said}"))
    write_heartbeat(execution, Heartbeat("s-0.a", Slot("s", 0), "local", this_process(), reason=said))

    shown = "401 for https://me:***@hub/x with hf_***, sk-*** and Authorization: Bearer ***"
    assert cause.message == shown
    assert SECRET not in cause.traceback
    (path,) = execution.outcomes.iterdir()
    assert read_outcome(path).message == shown
    assert read_outcome(path).traceback == f"log: {shown}"
    assert read_workers(execution, 180)["s-0.a"].heartbeat.reason == shown
