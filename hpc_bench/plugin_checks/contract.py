"""The error that contract checks raise, and the checks that apply to every kind of plug-in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hpc_bench.errors import HpcBenchError
from hpc_bench.options import from_mapping

__all__ = ["ContractError", "require", "require_dataclass", "require_json"]


class ContractError(AssertionError):
    """A plug-in violates its contract; the message says how."""


def require(holds: bool, violation: str) -> None:
    """ContractError with `violation` unless it holds."""
    if not holds:
        raise ContractError(violation)


def require_dataclass(plugin: Any) -> None:
    """ContractError unless `plugin` is a dataclass whose fields can be options in a sweep."""
    name = type(plugin).__name__
    own = "__dataclass_fields__" in vars(
        type(plugin)
    )  # without the decorator, a subclass has only the fields of its parent
    require(own, f"{name} must be a frozen dataclass; put @dataclass(frozen=True) above it")
    options = require_json(dataclasses.asdict(plugin), f"the options of {name}")
    try:
        again = from_mapping(type(plugin), options, f"option of {name}")
    except HpcBenchError as error:
        raise ContractError(
            f"{name} cannot be built from its own options, as a sweep would give them: {error}"
        ) from error
    require(again == plugin, f"{name} built from its own options {options} is not equal to the original")


def require_json(value: Any, what: str) -> Any:
    """The value as JSON gives it back; ContractError if it cannot be written as JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{what} must be plain JSON data without NaN or infinity: {error}") from error
