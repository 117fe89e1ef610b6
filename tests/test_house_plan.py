"""Imports go down only, public names exist, and light commands stay light."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hpc_bench

FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "errors values hub_files",
        "files hub options",
        "catalog attention benchmarks",
        "adapters execution executor_values",
        "sweep report plugin",
        "running plugin_checks",
        "executor cli",
        "__main__",
    )
)
SHELVES = {"attention/maskers", "benchmarks/suites"}
"""Folders with one file a thing, which may grow without end."""
OFFLINE_PLAN = """
from hpc_bench.sweep.sweep import parse_sweep; from hpc_bench.sweep.plan import make_plan
from hpc_bench.errors import SweepError
keys = {"model_names": ["org/no-such-model"], "benchmark_configs": {"longbench": ["qasper"]}, "offline": True}
try: make_plan(parse_sweep({"name": "light", **keys}))
except SweepError as error: assert "prefetch" in str(error)
"""
LIST_BENCHMARKS = """
from hpc_bench.cli.benchmarks_view import print_benchmark, print_benchmarks; from rich.console import Console
print_benchmarks(Console(quiet=True)); print_benchmark(Console(quiet=True), "longbench")
"""
PLAN_EVERY_MASKER = """
from hpc_bench.sweep.plan import make_plan; from hpc_bench.sweep.sweep import load_sweep; from pathlib import Path
sweep = load_sweep(Path("examples/attention/published.yaml")); make_plan(sweep)
assert len({type(masker) for config in sweep.attentions.values() for masker in config.chain}) > 10
from hpc_bench.attention.quantization import check_bits
from hpc_bench.attention.maskers import double_sparsity, hash_attention
"""
PACKAGE = Path(hpc_bench.__file__).parent


def rooms() -> dict[str, list[Path]]:
    """Top-level modules and packages, with their files."""
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(room, []).append(path)
    del found["__init__"]
    return found


def imported_rooms(path: Path) -> set[str]:
    """The rooms of this package that a file imports, at any place in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hpc_bench"):
            parts = node.module.split(".")[1:]
            names |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("hpc_bench.")}
    return names


def test_every_room_has_a_floor() -> None:
    assert set(rooms()) == {room for floor in FLOORS for room in floor}


def test_imports_go_down_only() -> None:
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    upward = [
        f"{path.relative_to(PACKAGE)} imports {other}"
        for room, paths in rooms().items()
        for path in paths
        for other in imported_rooms(path) - {room}
        if floor_of[other] >= floor_of[room]
    ]
    assert upward == []


@pytest.mark.parametrize(
    "statement",
    [
        "import hpc_bench.cli",
        "import hpc_bench",
        "import hpc_bench.plugin, hpc_bench.plugin_checks",
        "import hpc_bench.sweep.plan, hpc_bench.sweep.prefetch, hpc_bench.report.collect, hpc_bench.report.rescore",
        "import hpc_bench.running.status, hpc_bench.running.submit, hpc_bench.running.worker.worker",
        "import hpc_bench.cli.status_view, hpc_bench.cli.doctor",
        LIST_BENCHMARKS,
        OFFLINE_PLAN,
        PLAN_EVERY_MASKER,
        "from pathlib import Path; import hpc_bench.sweep.sweep as s; s.load_sweep(Path('examples/quickstart.yaml'))",
    ],
)
def test_light_commands_load_nothing_heavy(statement: str) -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'pandas'}"
    check = f"import sys\n{statement}\nprint(*sorted({heavy} & set(sys.modules)))"
    root = PACKAGE.parent

    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=root)

    assert done.stdout.strip() == ""


def test_public_names_exist_and_are_documented() -> None:
    for info in pkgutil.walk_packages([str(PACKAGE)], "hpc_bench."):
        module = importlib.import_module(info.name)
        assert module.__doc__, info.name
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{info.name}.{name}"


def test_quickstart_in_the_examples_is_the_one_that_init_writes() -> None:
    example = PACKAGE.parent / "examples" / "quickstart.yaml"
    assert example.read_text() == (PACKAGE / "quickstart.yaml").read_text()
