"""The cluster that all tests of a session share."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator

import pytest

from hpc_bench.running.local import LocalBackend
from tests.support.cluster import Cluster, is_installed

_SKIPPED: list[str] = []


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
    if not is_installed():
        if os.environ.get("CI"):
            pytest.fail("Slurm is not installed, and CI must test on it: run slurm/testbed install")
        _SKIPPED.append(request.node.nodeid)
        pytest.skip("Slurm is not installed")
    made: Cluster = request.getfixturevalue("_cluster")
    made.clear()
    return made


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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models: several threads cost them more than they give, much more where the cores are busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _SKIPPED:
        terminalreporter.write_sep("!", "NOT TESTED", red=True)
        terminalreporter.write_line(
            f"{len(_SKIPPED)} tests of sweeps on Slurm did not run: Slurm is not installed; "
            "`slurm/testbed install` as root, or with sudo, installs it"
        )
