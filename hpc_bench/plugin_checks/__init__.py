"""Contract checks for plug-ins, each one line in a test: `check_benchmark(Sums(samples=3))`.

Each raises a ContractError, which is an AssertionError, that says what is violated. They depend on no test framework.
hpc_bench checks its own benchmarks, maskers and adapters with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_bench.plugin_checks.adapter import check_adapter
from hpc_bench.plugin_checks.benchmark import check_benchmark
from hpc_bench.plugin_checks.contract import ContractError

if TYPE_CHECKING:
    from hpc_bench.plugin_checks.masker import check_masker

__all__ = ["ContractError", "check_adapter", "check_benchmark", "check_masker"]

if not TYPE_CHECKING:  # with a module __getattr__, type checkers accept every name

    def __getattr__(name: str) -> Any:
        """Loads the check that needs torch on its first use."""
        if name == "check_masker":
            from hpc_bench.plugin_checks.masker import check_masker

            return check_masker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
