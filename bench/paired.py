"""Measures things side by side: interleaved runs, their ratios, and what machine they ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from statistics import median

Times = dict[str, list[float]]


def print_machine() -> None:
    """The facts that the figures depend on."""
    print(
        f"machine: {len(os.sched_getaffinity(0))} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"torch {version('torch')}, transformers {version('transformers')}"
    )


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seconds_of_command(command: Sequence[str], cwd: str | os.PathLike[str] | None = None) -> float:
    """How long a command takes; CalledProcessError, with its output printed, if it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        print(done.stdout, done.stderr)
        done.check_returncode()
    return took


def interleave(ways: Mapping[str, Callable[[], float]], repeats: int) -> Times:
    """Runs every way once a round, each round starting with another one, so that drifting load meets all alike."""
    names, times = list(ways), {name: [] for name in ways}
    for number in range(repeats):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            times[name].append(ways[name]())
    return times


def ratio(times: Times, above: str, below: str) -> float:
    """The median over the rounds of one way's time divided by another's in the same round."""
    return median(a / b for a, b in zip(times[above], times[below], strict=True))


def print_times(times: Times) -> None:
    """Each way's median, minimum and maximum."""
    width = max(map(len, times))
    for name, values in times.items():
        print(
            f"{name:{width}}  median {median(values):8.3f} s  min {min(values):8.3f}  max {max(values):8.3f}"
            f"  ({len(values)} runs)"
        )


def print_figure(figure: str, target: str, measured: str, *, met: bool) -> None:
    """A row of the table in RESULTS.md."""
    print(f"| {figure} | {target} | {measured} | {'yes' if met else 'NO'} |")
