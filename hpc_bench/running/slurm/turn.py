"""One at a time: two calls of `submit` that both look at the queue and then submit would exceed the cap together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Process, this_process
from hpc_bench.execution.schema import dump_as, read_as
from hpc_bench.files import create_exclusive, filesystem_now

__all__ = ["submitting_alone"]

LONGEST_S = 120.0
"""A turn that takes longer is taken for one whose process is gone."""


@contextmanager
def submitting_alone(execution: ExecutionDir) -> Iterator[None]:
    """Waits until nobody else submits workers for the execution; a turn of a dead process is over."""
    mine = dump_as(Process, this_process())
    while not create_exclusive(execution.turn, mine):
        if _is_over(execution):
            execution.turn.unlink(missing_ok=True)
        else:
            time.sleep(0.2)
    try:
        yield
    finally:
        execution.turn.unlink(missing_ok=True)


def _is_over(execution: ExecutionDir) -> bool:
    try:
        age_s = filesystem_now(execution.state) - execution.turn.stat().st_mtime
        return age_s > LONGEST_S or read_as(Process, execution.turn).is_gone()
    except (OSError, ValueError):
        return False
