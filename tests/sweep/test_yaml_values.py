"""What stands in a sweep file without quotes: read as it looks, or refused as it was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpc_bench import catalog
from hpc_bench.errors import SweepError
from hpc_bench.sweep.plain_yaml import load_yaml
from hpc_bench.sweep.sweep import load_sweep
from tests.support.builders import run_cli
from tests.support.refusals import assert_refused

BASE = "model_names: [org/m]\nbenchmark_configs: {mock_benchmark: }\n"
NUMBERS = ("0512", "0010", "-012", "00", "089", "01.5", "0x1F", "0b101", "0o17", "1_000", "1_000.5", "4096_")
UNCLEAR = (
    *NUMBERS,
    *("1e3", "1.5e3", "1E-3", "-.5", "1e400", "1.0e+400", ".inf", "-.INF", ".NaN"),
    *("2024-06-01", "2024-13-45", "2024-06-01T10:00:00Z", "2024-6-1 10:00:00"),
    *("yes", "No", "ON", "off", "y", "N", "99999999999999999999", "9" * 5000),
)
CLEAR: tuple[tuple[str, object], ...] = (
    *(("0", 0), ("-1", -1), ("+5", 5), ("512", 512), ("0.5", 0.5), ("1.", 1.0), (".5", 0.5), ("1.0e-3", 0.001)),
    *(("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("'0512'", "0512"), ('"no"', "no")),
    *((text, text) for text in ("4:00:00", "04:00:00", "90:00", "0:30", "1-12:00:00", "4:00:00.5", "1.2.3", "=")),
    *(
        (text, text)
        for text in ("4096_vt", "0shot", "2h", "none", "nope", "on time", "v1e3", "64G", "1.5.0", "2024-06")
    ),
)


@pytest.mark.parametrize("text", UNCLEAR)
def test_value_that_is_not_what_it_looks_like_is_refused_as_it_was_written(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"{BASE}slurm:\n  account: {text}\n")

    with pytest.raises(SweepError) as refused:
        load_sweep(file)

    message = str(refused.value)
    assert message.startswith(f"{file}: slurm.account: line 4: {text[:60]}")
    assert "quotes" in message
    assert len(message) < 400


@pytest.mark.parametrize(("text", "value"), CLEAR)
def test_value_that_is_clear_is_read_as_it_looks(text: str, value: object) -> None:
    read = load_yaml(text)

    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", [text for text in UNCLEAR if len(text) < 60])
def test_value_in_quotes_is_text(text: str) -> None:
    assert load_yaml(f"['{text}', \"{text}\"]") == [text, text]


@pytest.mark.parametrize("key", ["0512", "5", "1.5", "true", "no", "On", "~", "null", "2024-06-01", ".inf", "0x1F"])
def test_key_that_is_no_text_is_refused_as_it_was_written(tmp_path: Path, key: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"{BASE}sparse_attention_configs:\n  {key}: [{{sink: 4}}]\n")

    with pytest.raises(SweepError, match=re.escape(f'key {key} must be text; put it in quotes: "{key}"')) as refused:
        load_sweep(file)

    assert str(refused.value).startswith(f"{file}: sparse_attention_configs: line 4: ")


@pytest.mark.parametrize("key", ["y", "n", "4:00", "top k", '"no"', "'5'"])
def test_key_that_is_text_may_look_like_anything_in_quotes(tmp_path: Path, key: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"{BASE}sparse_attention_configs:\n  {key}: [{{sink: 4}}]\n")

    assert list(load_sweep(file).attentions) == [key.strip("\"'")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "benchmark_configs:\n  needle: {subsets: [256, 0512]}",
            "benchmark_configs.needle.subsets.1: line 5: 0512 is a",
        ),
        (
            "request_kwargs: {max_samples: 0010}",
            "request_kwargs.max_samples: line 4: 0010 is a number with a leading zero",
        ),
        ("request_kwargs: {keep_context: yes}", "request_kwargs.keep_context: line 4: yes is a switch to some readers"),
        ("limits: &a {<<: {max_attempts: 3}}", "limits: line 4: merge keys (<<) are not supported"),
        ("limits: {max_attempts: !!int 3}", "limits.max_attempts: line 4: tags such as !!int are not supported"),
        ("local: {gpus: !list [0]}", "local.gpus: line 4: tags such as !list are not supported"),
        ("limits: {lease: 9s, lease: 8s}", "limits: line 4: duplicate key 'lease'"),
        (
            "limits: {lease: &a 9s, stub_timeout: *a}",
            "limits.stub_timeout: line 4: aliases such as *a are not supported",
        ),
        ("limits:\n  ? \n  : 3", "limits: line 5: key (empty) must be text"),
        ('"a\\nb": {x: 0512}', r"'a\nb'.x: line 4: 0512 is a number"),
        ("limits: {lease: !!%0Aa 3}", r"limits.lease: line 4: tags such as '!!\na' are not supported"),
    ],
)
def test_refusal_names_the_key_path_and_the_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"model_names: [org/m]\nname: tiny\n\n{text}\n")

    with pytest.raises(SweepError, match=re.escape(f"{file}: {words}")):
        load_sweep(file)


def test_set_refuses_what_a_file_refuses_and_says_how_quotes_pass_the_shell(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(BASE)

    with pytest.raises(SweepError) as refused:
        load_sweep(file, ["slurm.account=0123"])

    assert str(refused.value).startswith("--set.slurm.account: line 1: 0123 is a number with a leading zero")
    assert """--set 'KEY="VALUE"'""" in str(refused.value)
    assert load_sweep(file, ['slurm.account="0123"']).slurm.account == "0123"
    assert load_sweep(file, ["slurm.time=4:00:00"]).slurm.time_min == 240


def test_set_names_the_place_in_its_value(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(BASE)

    with pytest.raises(SweepError) as refused:
        load_sweep(file, ["benchmark_configs={needle: {subsets: [256, 0512]}}"])

    assert str(refused.value).startswith("--set.benchmark_configs.needle.subsets.1: line 1: 0512 ")


def test_profile_is_named_where_its_value_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "ours.yaml"
    profile.write_text("partition: gpu\nadditional_parameters: {comment: 007}\n")
    file = tmp_path / "sweep.yaml"
    file.write_text(f"{BASE}slurm: {{profile: ./ours.yaml}}\n")

    with pytest.raises(SweepError) as refused:
        load_sweep(file)

    place = f"{file}: slurm.profile: {profile}: additional_parameters.comment: line 2: 007 is a number"
    assert str(refused.value).startswith(place)


@pytest.mark.usefixtures("no_workers")
def test_needle_with_leading_zeros_is_refused_by_the_commands(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("model_names: [org/m]\nbenchmark_configs:\n  needle: {subsets: [0512], samples: 0010}\n")

    for command in ("plan", "submit"):
        assert_refused(run_cli(command, file), f"{file}: benchmark_configs.needle.subsets.0: line 3: 0512 ", '"0512"')


def test_names_that_ship_are_clear_without_quotes() -> None:
    names = [name for kind in ("benchmark", "masker", "adapter") for name in catalog.names(kind)]
    names += [
        name for benchmark in catalog.names("benchmark") for name in catalog.resolve("benchmark", benchmark).subsets
    ]

    assert [str(load_yaml(name)) for name in names] == names
