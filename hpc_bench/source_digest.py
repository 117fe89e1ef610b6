"""The digest of a plug-in's source code: what it does, not how it is laid out, so that a comment changes nothing."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

__all__ = ["source_digest"]

_LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of syntax trees that say nothing of what is computed, or that only some versions of Python have."""


def source_digest(point: EntryPoint) -> str:
    """sha256 over the syntax trees of the plug-in's package, docstrings left out; nothing of it is imported.

    The package's version where its source cannot be found or read. What it imports from other packages, and compiled
    code, is not seen.
    """
    try:
        files = dict(_sources(point.module.partition(".")[0]))
        trees = {name: _content(file.read_bytes()) for name, file in files.items()}
    except (OSError, SyntaxError, ValueError, ImportError, RecursionError):
        trees = {}
    if not trees:
        return f"version {point.dist.version if point.dist else 'unknown'}"
    return hashlib.sha256(repr(sorted(trees.items())).encode(errors="surrogatepass")).hexdigest()


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    """The Python files of a top-level module or package, by their place in it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    for folder in map(Path, spec.submodule_search_locations or ()):
        yield from ((str(file.relative_to(folder)), file) for file in sorted(folder.rglob("*.py")))
    if not spec.submodule_search_locations and spec.origin:
        yield Path(spec.origin).name, Path(spec.origin)


def _content(source: bytes) -> object:
    """A file's syntax tree; of one that is no Python, such as a template, its bytes."""
    try:
        return _canonical(_without_docstrings(ast.parse(source)))
    except (SyntaxError, ValueError):
        return source


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest
    return tree


def _canonical(value: object) -> object:
    """A tree as nested tuples, empty fields left out: the same under every version of Python that has its syntax."""
    if isinstance(value, ast.AST):
        fields = ((name, _canonical(part)) for name, part in ast.iter_fields(value) if name not in _LAYOUT)
        return (type(value).__name__, *((name, part) for name, part in fields if part not in (None, ())))
    if isinstance(value, list):
        return tuple(map(_canonical, value))
    return None if value is None else f"{type(value).__name__} {value!r}"
