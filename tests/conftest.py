"""What all tests share: the order in which they run side by side, one thread each, and clusters."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator

import pytest

from hpc_bench.running.local import LocalBackend
from tests.support.cluster import Cluster, is_installed

CLUSTERS = 2
"""So many tests on Slurm run side by side, each on a cluster of its own: they mostly wait."""
NO_SLURM = "Slurm is not installed"

# For tiny models: several threads cost them more than they give, much more where the cores are busy.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a cluster share few of them, and what takes longest starts first."""
    on_slurm = [item for item in items if {"cluster", "another_cluster"} & set(getattr(item, "fixturenames", ()))]
    for number, item in enumerate(sorted(on_slurm, key=_is_fast)):
        item.add_marker(pytest.mark.slurm)
        item.add_marker(pytest.mark.xdist_group(f"slurm{number % CLUSTERS}"))
    items.sort(key=lambda item: (item not in on_slurm, _is_fast(item)))


def _is_fast(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is None


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    made = Cluster()
    atexit.register(made.down)  # also where pytest is ended by a signal between two fixtures
    try:
        made.up()
        yield made
    finally:
        made.down()
        atexit.unregister(made.down)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A running cluster without jobs; skipped, and failed in CI, where Slurm is not installed."""
    _require_slurm()
    made: Cluster = request.getfixturevalue("_cluster")
    made.clear()
    return made


@pytest.fixture
def another_cluster() -> Iterator[Cluster]:
    """One node without GPUs and accounting, not started yet."""
    _require_slurm()
    made = Cluster("--nodes", "1", "--gpus", "0", "--no-accounting")
    yield made
    made.down()


def _require_slurm() -> None:
    if not is_installed():
        if os.environ.get("CI"):
            pytest.fail(f"{NO_SLURM}, and CI must test on it: run slurm/testbed install")
        pytest.skip(NO_SLURM)


@pytest.fixture
def on_the_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that a test starts talk to the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that should have been refused fails its test instead of running."""

    def start(*_arguments: object, **_options: object) -> None:
        raise AssertionError("workers were started")

    monkeypatch.setattr(LocalBackend, "launch", start)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if NO_SLURM in str(report.longrepr)]
    if skipped:
        terminalreporter.write_sep("!", "NOT TESTED", red=True)
        terminalreporter.write_line(
            f"{len(skipped)} tests of sweeps on Slurm did not run: {NO_SLURM}; "
            "`slurm/testbed install` as root, or with sudo, installs it"
        )
