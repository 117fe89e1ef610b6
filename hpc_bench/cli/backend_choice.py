"""Which backends a command is about: the one that is asked for, or all where a sweep leaves that open."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from hpc_bench.errors import BackendError
from hpc_bench.running import BACKENDS

__all__ = ["backend_names", "make_backends", "only_backend", "submit_commands"]

_OF_SUBMIT = ("sweep_file", "changes", "new", "retry_failed", "discard_stale", "accept_code", "wait", "dry_run")
"""The parameters of `submit` that say nothing of where to run."""


def backend_names(backend: str | None, gpus: str | None, sweep: Any) -> tuple[str, ...]:
    """The backend that a command line asks for, by --backend or --gpus; every one where it leaves that open and the
    sweep has a `slurm` section, since such a sweep may be meant for a cluster.
    """
    if backend is not None:
        return (backend,)
    return tuple(BACKENDS) if gpus is None and sweep.has_slurm_section else ("local",)


def submit_commands(context: click.Context) -> list[str]:
    """The commands that submit what the present command line names, one for each backend."""
    words = shlex.join(_repeated(context))
    return [f"hpc-bench submit --backend {name} {words}".rstrip() for name in BACKENDS]


def _repeated(context: click.Context) -> Iterator[str]:
    """Those arguments of a command line that `submit` has, too; the sweep comes last."""
    for parameter in sorted(context.command.params, key=lambda parameter: isinstance(parameter, click.Argument)):
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name not in _OF_SUBMIT or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Argument):
            yield str(value)
        elif isinstance(value, tuple):
            for item in value:
                yield from (parameter.opts[0], item)
        else:
            yield (parameter.opts if value else parameter.secondary_opts)[0]


def make_backends(names: tuple[str, ...], sweep: Any, gpus: str | None) -> Mapping[str, Any]:
    """Name -> backend with the sweep's settings; BackendError if it cannot be used, in its place where it is one of
    several.
    """
    from hpc_bench.running.backend import backend_class

    made: dict[str, Any] = {}
    for name in names:
        try:
            made[name] = backend_class(name).of_sweep(sweep, gpus)
        except BackendError as error:
            if len(names) == 1:
                raise
            made[name] = error
    return made


def only_backend(context: click.Context, sweep: Any, backend: str | None, gpus: str | None) -> Any:
    """The backend to run on; BackendError shows the commands to choose from where that is open."""
    names = backend_names(backend, gpus, sweep)
    if len(names) > 1:
        commands = " or ".join(f"`{command}`" for command in submit_commands(context))
        raise BackendError(f"{sweep.file} has a slurm section, so say where to run it: {commands}")
    (made,) = make_backends(names, sweep, gpus).values()
    return made
