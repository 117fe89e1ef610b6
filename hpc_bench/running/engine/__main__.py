"""`python -m hpc_bench.running.engine EXECUTION MODEL PARENT`, started by a worker: loads the model, then answers
bundles, which come on standard input as events go to standard output, until the worker closes the pipe.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hpc_bench import catalog
from hpc_bench.adapters.base import DeviceError, ModelAdapter
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.manifest import read_header
from hpc_bench.execution.schema import parse_as
from hpc_bench.files import may_pass
from hpc_bench.running.engine.engine import Engine
from hpc_bench.running.engine.events import Broken, Hindered, Loaded, LoadFailed, Outdated, Work
from hpc_bench.running.engine.pipe import (
    Events,
    cause_of,
    die_with_parent,
    ignore_signals_for_workers,
    read_messages,
)
from hpc_bench.running.looking import PatientLook
from hpc_bench.values import ModelOptions


def main() -> None:
    """Ends this process when the worker does, or when the model cannot be loaded."""
    folder, model, parent = sys.argv[1:]
    die_with_parent(int(parent))
    ignore_signals_for_workers()
    events = Events()
    messages = read_messages()
    execution = ExecutionDir(Path(folder))
    look = PatientLook()
    header = look.at(lambda: read_header(execution))
    look.patience_s = header.limits.lease_s / 2
    adapter = _load(header, model, events)
    if adapter is None:
        return
    engine = Engine(execution, header, adapter, events, look)
    while True:
        engine.answer_bundle(parse_as(Work, messages.get()))


def _load(header: Header, model: str, events: Events) -> ModelAdapter | None:
    """The loaded model; None, and an event that says why, if it cannot be."""
    if model not in header.models:  # the worker read the manifest before a submission replaced it
        events.send(Outdated())
        return None
    spec = header.models[model]
    options = spec.options(header.generation)
    adapter_class: type[ModelAdapter] = catalog.resolve("adapter", spec.adapter)
    started = time.monotonic()
    if not _has_device(adapter_class, options, events):
        return None
    try:
        header.refuse_changed_adapter(model)
        adapter = adapter_class.load(options)
    except Exception as error:
        events.send(Hindered("", cause_of(error)) if may_pass(error) else LoadFailed(cause_of(error)))
        return None
    events.send(Loaded(round(time.monotonic() - started, 3)))
    return adapter


def _has_device(adapter_class: type[ModelAdapter], options: ModelOptions, events: Events) -> bool:
    """Only this check blames the device; what goes wrong while loading is the model's own."""
    try:
        adapter_class.check_device(options)
    except DeviceError as error:
        events.send(Broken(cause_of(error)))
        return False
    except Exception as error:
        events.send(Hindered("", cause_of(error)) if may_pass(error) else LoadFailed(cause_of(error)))
        return False
    return True


if __name__ == "__main__":
    main()
