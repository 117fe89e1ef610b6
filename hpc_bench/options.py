"""A dataclass from YAML values: types are checked, nothing is converted, and errors name the key and the remedy."""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_bench.errors import PluginError, SweepError, unknown_name, within
from hpc_bench.places import find_path

if TYPE_CHECKING:
    import pydantic  # imported where it is used: `doc` is for modules that `--help` loads, too

__all__ = ["doc", "doc_of", "from_mapping", "with_paths"]

_DOC = "doc"
_FILE = "file"
"""In the metadata of a field that names a file or folder."""
_MOST_SHOWN = 60
_REMEDIES: Mapping[str, str] = types.MappingProxyType(
    {
        "bool_type": "true or false (no quotes)",
        "dict_type": "a mapping such as {key: value}",
        "float_type": "a number such as 0.5 (no quotes)",
        "int_type": "a whole number such as 4 (no quotes, no point)",
        "list_type": "a list such as [0, 1]",
        "string_type": "text (in quotes where it looks like a number)",
    }
)
"""pydantic's kind of complaint -> what to write."""


def doc(meaning: str) -> Mapping[str, str]:
    """What an option means, as metadata of its field: `samples: int = field(default=100, metadata=doc("..."))`.

    `hpc-bench benchmarks list` and `attention list` show it. It does not wrap `field`, since type checkers tell only
    from a call of `field` itself whether an option has a default.
    """
    return types.MappingProxyType({_DOC: meaning})


def doc_of(field: dataclasses.Field[Any]) -> str:
    """What an option means; empty if its field does not say."""
    return str(field.metadata.get(_DOC, ""))


@cache
def _validator(cls: Any) -> pydantic.TypeAdapter[Any]:
    import pydantic

    return pydantic.TypeAdapter(cls)


def from_mapping(cls: Any, options: Mapping[str, Any], what: str) -> Any:
    """A dataclass from YAML values, types checked without coercion; SweepError names the key and what is allowed."""
    import pydantic

    valid = [field.name for field in dataclasses.fields(cls)]
    for key in options:
        if key not in valid:
            raise SweepError(unknown_name(what, key, valid) if valid else f"takes no options, but {key!r} was given")
    try:
        return _validator(cls).validate_json(json.dumps(dict(options), allow_nan=False), strict=True)
    except pydantic.ValidationError as error:
        raise _as_sweep_error(error, cls) from error
    except (TypeError, ValueError, RecursionError) as error:
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(cls.__abstractmethods__))
            raise PluginError(f"{cls.__module__}.{cls.__name__} does not define {lacking}") from error
        raise SweepError(f"holds a value that is not plain YAML data: {error}") from error


def with_paths(cls: Any, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options with whole paths for those of a sweep in `folder`, in the fields whose metadata has `file`."""
    paths = {}
    for field in dataclasses.fields(cls):
        value = options.get(field.name)
        if field.metadata.get(_FILE) and isinstance(value, str) and value.strip():
            with within(field.name):
                paths[field.name] = str(find_path(value, folder))
    return {**options, **paths}


def _as_sweep_error(error: pydantic.ValidationError, cls: Any) -> SweepError:
    """The first complaint, with the key it is about; the complaints of a union's members are joined by "or"."""
    details = error.errors(include_url=False)
    place = details[0]["loc"][:1]
    if details[0]["type"] == "missing":
        wanted = ", ".join(field.name for field in dataclasses.fields(cls) if _is_needed(field))
        return SweepError(
            f"field required; name it beside the others that have no default: {{{wanted}}}", *map(str, place)
        )
    about = [part for part in details if part["loc"][:1] == place]
    messages = (part["msg"].removeprefix("Value error, ") for part in about)
    said = ", or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in messages))
    return SweepError(said + _got(about), *map(str, place))


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _got(details: Sequence[Any]) -> str:
    """The value that was refused, and what to write in its place; empty where a class said so itself."""
    if details[0]["type"] == "value_error":
        return ""
    value = details[0]["input"]
    shown = repr(value) if isinstance(value, str) else json.dumps(value)
    short = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
    remedies = dict.fromkeys(_REMEDIES[part["type"]] for part in details if part["type"] in _REMEDIES)
    return f", not {short}" + (f"; write {' or '.join(remedies)}" if remedies else "")
