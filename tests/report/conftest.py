"""A result to be scored again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_bench.execution.folder import ExecutionDir
from tests.support.scored_results import one_stub, publish_scored


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    """One stub, complete, with a score of 80 where 50 is right."""
    made = one_stub(tmp_path)
    publish_scored(made, 80.0)
    return made
