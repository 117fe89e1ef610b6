"""The house: eight rooms whose imports go down only, small enough to be seen at a glance; light commands stay light."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import hpc_bench

FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "errors values hub_files source_digest",
        "places",
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


def modules() -> dict[str, Path]:
    """Every module by its dotted name; a package by its folder's."""
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }


def arrows() -> dict[str, set[str]]:
    """Module -> the modules of this package that it imports, at any place in it."""
    known = modules()
    found = {}
    for name, path in known.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= {each if each in known else node.module for each in names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name] = (imported & known.keys()) - {name}
    return found


def room_of(module: str) -> str:
    """The top-level module or package that a module is, or lies in."""
    return module.split(".")[1] if "." in module else "__init__"


def test_every_room_has_a_floor() -> None:
    assert set(rooms()) == {room for floor in FLOORS for room in floor}


def test_imports_go_down_only() -> None:
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor} | {"__init__": len(FLOORS)}
    upward = [
        f"{name} imports {other}"
        for name, imported in arrows().items()
        for other in imported
        if room_of(other) != room_of(name) and floor_of[room_of(other)] >= floor_of[room_of(name)]
    ]
    assert upward == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    left = arrows()
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]

    assert list(left) == []


def test_house_can_be_seen_at_a_glance() -> None:
    folders = {path.parent for path in modules().values()} - {PACKAGE / shelf for shelf in SHELVES}
    crowded = [folder for folder in folders if len(list(folder.glob("*.py"))) > 16]
    inside = [room_of(name) == room_of(other) for name, imported in arrows().items() for other in imported]

    assert len(list(PACKAGE.glob("*.py"))) <= 14
    assert crowded == []
    assert len(FLOORS) <= 9
    assert sum(inside) / len(inside) >= 0.4


def test_functions_are_short() -> None:
    lengths = {
        f"{name}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }

    assert [name for name, length in lengths.items() if length > 45] == []
    assert median(lengths.values()) <= 8


@pytest.mark.parametrize(
    "statement",
    [
        "import hpc_bench.cli",
        "import hpc_bench",
        "import hpc_bench.plugin, hpc_bench.plugin_checks",
        "import hpc_bench.sweep.plan, hpc_bench.sweep.prefetch, hpc_bench.report.collect, hpc_bench.report.rescore",
        "import hpc_bench.running.status, hpc_bench.running.submit, hpc_bench.running.worker.worker",
        "import hpc_bench.running.local, hpc_bench.running.slurm.backend, hpc_bench.running.logs",
        "import hpc_bench.cli.status_view, hpc_bench.cli.plan_view, hpc_bench.cli.doctor.checks",
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
