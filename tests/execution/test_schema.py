"""Typed values on disk and in pipes."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from hpc_bench.execution.schema import parse_as


class Interrupting:
    """A type during whose preparation the user presses Ctrl-C."""

    steps: list[str] = []

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        cls.steps.append("prepared")
        return handler(int)


def test_interrupt_while_a_type_is_prepared_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt):
        parse_as(Interrupting, "1")

    assert Interrupting.steps == ["prepared"]
