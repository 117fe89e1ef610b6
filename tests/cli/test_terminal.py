"""No text from a model, a data set, a file or a name steers the terminal of whoever looks at it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from click.testing import Result
from rich.cells import cell_len

import hpc_bench
from hpc_bench.errors import HubError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, this_process, write_heartbeat
from hpc_bench.execution.slot import Slot
from hpc_bench.hub import needed_files
from hpc_bench.values import HubRepo
from tests.support.builders import MODELS, claim, fail, prepare, publish, run_cli, stubs_of, write_sweep
from tests.support.refusals import assert_refused
from tests.support.running import HPC_BENCH

EVIL = "<\x1b]8;;http://evil\x07link\x1b[2J\x9b31m\x08\rover\u202eesrever\u2066\x00\x7f\u2028>"
SHOWN = r"<\x1b]8;;http://evil\x07link\x1b[2J\x9b31m\x08\x0dover\u202eesrever\u2066\x00\x7f\u2028>"
OWN = {"data": "x.jsonl", "metric": "qa_f1", "max_new_tokens": 8}
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
BIDI = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def assert_harmless(result: Result) -> None:
    for text in (result.stdout, result.stderr):
        steering = {char for char in text if unicodedata.category(char) in ("Cc", "Zl", "Zp") or char in BIDI}
        assert steering <= {"\n"}


def columns_of(line: str, *words: str) -> list[int]:
    return [cell_len(line[: line.index(word)]) for word in words]


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    """A result, a failure, and two workers, with evil texts wherever an error or a machine may have put them."""
    made = prepare(tmp_path / "results")
    first, second, third, *_ = stubs_of(made)
    publish(made, first)
    log = made.engine_log("w", 1)
    log.write_text(f"loading {EVIL}\n 10%\r 20%\r\nloaded\n")
    fail(made, second, attempts=2, error=f"Error{EVIL}", message=f"cannot {EVIL}", log=".state/jobs/w.engine1.log")
    for number, node in enumerate(("node7", f"node{EVIL}")):
        beat = Heartbeat(f"s-{number}.a", Slot("s", number), "local", this_process(), "loading", node=node)
        write_heartbeat(made, beat)
    claim(made, third, "s-0.a")
    return made


def test_status_is_harmless_and_aligned(execution: ExecutionDir) -> None:
    shown = run_cli("status", execution.path)

    assert_harmless(shown)
    assert f"Error{SHOWN}: cannot {SHOWN}" in shown.output
    heading, *rows = [line for line in shown.output.splitlines() if "state" in line or "loading" in line]
    assert len(rows) == 2
    assert f"node{SHOWN}" in rows[1]
    for row in rows:
        assert columns_of(row, "CPU", "loading") == columns_of(heading, "GPU", "state")


def test_collect_is_harmless_and_aligned(execution: ExecutionDir) -> None:
    manifest = execution.manifest.read_text()
    execution.manifest.write_text(manifest.replace('"streaming"', json.dumps("a\x1b[31m\u202eb\x9b")))

    shown = run_cli("collect", execution.path)

    assert_harmless(shown)
    assert f"Error{SHOWN}: cannot" in shown.output
    table = [line for line in shown.output.splitlines() if line.startswith(("│", "┃", "├", "┡"))]
    assert any(r"│ a\x1b[31m\u202eb\x9b │" in line for line in table)
    assert len({cell_len(line) for line in table}) == 1


def test_logs_are_harmless(execution: ExecutionDir) -> None:
    shown = run_cli("logs", execution.path, stubs_of(execution)[1].title)

    assert_harmless(shown)
    start, end = SHOWN.split(r"\x0d")
    assert shown.stdout.splitlines() == [f"loading {start}", end, " 10%", " 20%", "loaded"]


def test_plan_is_harmless(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (model / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "suppress_tokens": EVIL}))

    shown = run_cli("plan", write_sweep(tmp_path, model_names=[str(model)]))

    assert shown.exit_code == 0, shown.output
    assert_harmless(shown)
    assert SHOWN in shown.output


@pytest.mark.parametrize("command", ["status", "collect", "logs", "cancel", "rescore"])
def test_paths_are_harmless(execution: ExecutionDir, command: str) -> None:
    more = {"logs": [stubs_of(execution)[1].title], "cancel": ["--wait", "0"]}
    folder = execution.path.rename(execution.path.parent / "a\x1b[31m\x07\u202eb\x9b")

    shown = run_cli(command, folder, *more.get(command, []))

    assert shown.exit_code < 2
    assert_harmless(shown)


@pytest.mark.parametrize("command", ["status", "collect"])
def test_colours_on_a_terminal_are_our_own(
    execution: ExecutionDir, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    shown = run_cli(command, execution.path)

    assert not {"\x07", "\x9b", "\r", "\u202e"} & set(shown.output)
    assert COLOURS.search(shown.output) or command == "status"
    assert "\x1b" not in COLOURS.sub("", shown.output)
    assert "\x1b[2J" not in shown.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", f"/no/{EVIL}"),
        ("status", f"--{EVIL}"),
        ("status", "a", f"b{EVIL}"),
        ("status", "--execution", EVIL),
        ("logs", "a", "b", f"c{EVIL}"),
        ("plan", "--backend", EVIL),
        ("plan", "--set", f"{EVIL}=1"),
        ("plan", f"{EVIL}.yaml"),
        ("doctor", "--probe-timeout", EVIL),
        (EVIL,),
        (f"--{EVIL}",),
    ],
)
def test_errors_are_harmless(execution: ExecutionDir, arguments: tuple[str, ...]) -> None:
    if arguments[:2] == ("status", "--execution"):
        arguments = (*arguments, str(execution.path.parent))

    refused = run_cli(*(argument.replace("\0", "") for argument in arguments))

    assert refused.exit_code == 2
    assert_harmless(refused)
    assert "Error: " in refused.stderr


def test_warnings_of_the_log_are_harmless(tmp_path: Path) -> None:
    data = tmp_path / "x\x1b[31m\u202e.jsonl"
    data.write_text(json.dumps({"context": "\ud83d", "question": "b", "answer": "c"}))
    sweep = write_sweep(tmp_path, benchmark_configs={"mine": {**OWN, "data": str(data)}})

    planned = subprocess.run([*HPC_BENCH, "plan", sweep], capture_output=True, text=True, check=True)

    assert r"x\x1b[31m\u202e.jsonl: half of a surrogate pair" in planned.stderr
    assert "\x1b" not in planned.stderr
    assert "\u202e" not in planned.stderr


def test_tracebacks_are_harmless(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    run_cli("benchmarks", "list", "no-such")

    sys.excepthook(ValueError, ValueError(f"{EVIL} http://me:secret@hub/x"), None)

    assert capsys.readouterr().err == f"ValueError: {SHOWN} http://me:***@hub/x\n"


def test_programs_get_texts_as_they_are(execution: ExecutionDir) -> None:
    shown = run_cli("status", execution.path, "--json")

    assert_harmless(shown)
    assert f"node{EVIL}" in [worker["host"] for worker in json.loads(shown.stdout)["workers"]]


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"name": f"x{EVIL}"}, "name: "),
        ({"base_result_dir": f"x{EVIL}"}, "base_result_dir: "),
        ({"model_names": [f"org/{EVIL}"]}, "model_names.0: "),
        ({"model_names": [f"./{EVIL}"]}, "model_names.0: "),
        ({"model_names": [{"name": MODELS[0], "revision": EVIL}]}, "model_names.0: "),
        ({"sparse_attention_configs": {EVIL: None}}, "sparse_attention_configs: "),
        ({"benchmark_configs": {EVIL: None}}, "benchmark_configs"),
        ({"benchmark_configs": {EVIL: OWN}}, "benchmark_configs"),
        ({"benchmark_configs": {"needle": [EVIL]}}, "benchmark_configs.needle.subsets: "),
        ({"benchmark_configs": {"mine": {**OWN, "subsets": [EVIL]}}}, "benchmark_configs.mine.subsets: "),
    ],
)
def test_names_with_control_characters_are_refused(
    tmp_path: Path, keys: dict[str, object], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").write_text(json.dumps({"context": "a", "question": "b", "answer": "c", "task": EVIL}))

    refused = run_cli("plan", write_sweep(tmp_path, **keys))

    assert_refused(refused, where)
    assert_harmless(refused)


def test_link_to_a_model_whose_name_has_control_characters_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model\x1b[31m"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(model)

    refused = run_cli("plan", write_sweep(tmp_path, model_names=[str(tmp_path / "link")]))

    assert_refused(refused, "model_names.0: ", "invisible characters")


def test_files_of_a_hub_with_control_characters_are_refused() -> None:
    with pytest.raises(HubError, match=r"org/x.*'weights\\x1b\.safetensors'"):
        needed_files(HubRepo("model", "org/x", "main"), ["config.json", "weights\x1b.safetensors"], Path())


def test_nothing_else_in_the_command_line_prints() -> None:
    """So that whatever a command prints goes through the one filter."""
    folder = Path(hpc_bench.__file__).parent / "cli"
    others = []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and path != folder / "console.py":
                name = ast.unparse(node.func)
                if name in ("print", "Console", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"):
                    others.append(f"{path}: {name}")
    assert others == []
