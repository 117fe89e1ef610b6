"""Reads a YAML file into plain data, or says in one line why it cannot."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hpc_bench.errors import SweepError

__all__ = ["parse_value", "read_yaml"]

MAX_BYTES = 10_000_000


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, which YAML's own loader lets the later one win, and aliases (bombs)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_int_or_clock(self, node: yaml.ScalarNode) -> int | str:
        if ":" in node.value:  # YAML 1.1 reads a walltime of 4:00:00 as a number to the base of 60
            return str(node.value)
        value = self.construct_yaml_int(node)
        if abs(value) >= 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a number of more than 64 bits", node.start_mark)
        return int(value)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call] # PyYAML has no types here
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", mark)
        return super().compose_node(parent, index)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int_or_clock)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; SweepError names the file, and the line where there is one."""
    try:
        with path.open("rb") as file:  # may be /dev/zero
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SweepError(
            f"cannot be read: {error.strerror}; name a sweep file, or write one with `hpc-bench init`", str(path)
        ) from error
    if len(raw) > MAX_BYTES:
        raise SweepError(f"is larger than {MAX_BYTES:,} bytes, which no sweep needs", str(path))
    with _explained(str(path)):
        data = yaml.load(raw, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    if data is None:
        raise SweepError("is empty; `hpc-bench init` writes a sweep to start from", str(path))
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise SweepError("must be a mapping of keys such as model_names; `hpc-bench init` writes one", str(path))
    return data


def parse_value(text: str) -> Any:
    """The plain value that a text stands for in YAML; SweepError if it is none."""
    with _explained():
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derives from SafeLoader


@contextmanager
def _explained(*place: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SweepError(f"{line}not valid YAML: {error.problem or error.context}", *place) from error
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # PyYAML's constructors trust an explicit tag: `!!bool maybe` is a KeyError, `!!timestamp x` an AttributeError.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SweepError(f"not valid YAML: {reason}", *place) from error


def checked_mapping(value: Any) -> dict[str, Any]:
    """A mapping whose keys are text; SweepError otherwise."""
    if not isinstance(value, Mapping):
        raise SweepError("must be a mapping of keys to values")
    for key in value:
        if not isinstance(key, str):
            raise SweepError(f"key {key!r} must be text; put it in quotes")
    return dict(value)
