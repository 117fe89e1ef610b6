"""What goes wrong for a worker through no fault of the stubs: how often in a row, and how long it waits after it."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpc_bench.running.engine.events import Cause
from hpc_bench.running.worker.pulse import BrokenSlotError, Pulse

__all__ = ["Setbacks"]

MOST_HINDRANCES = 8
"""So many bundles in a row without a new sample or result, given back for errors that pass, and they do not pass."""
LONGEST_PAUSE_S = 60.0
TICK_S = 0.1


class Setbacks:
    """Counts deaths while loading, by model, and errors of filesystems; both start anew when the work gets on."""

    def __init__(self, pulse: Pulse, stop_reason: Callable[[], str]) -> None:
        self._pulse = pulse
        self._stop_reason = stop_reason
        self._loading_deaths: dict[str, int] = {}
        self._hindrances = 0

    def loaded(self, model: str) -> None:
        """A model could be loaded."""
        self._loading_deaths.pop(model, None)

    def got_on(self) -> None:
        """There is a new sample or result."""
        self._hindrances = 0

    def died_loading(self, model: str, earlier: int) -> int:
        """Counts a death while a model was being loaded, and returns how many there were in a row.

        `earlier`: those that the outcomes of its stubs tell of this node.
        """
        deaths = max(self._loading_deaths.get(model, 0), earlier) + 1
        self._loading_deaths[model] = deaths
        return deaths

    def hindered(self, cause: Cause) -> None:
        """Counts a bundle that was given back for an error that should pass, and waits; BrokenSlotError if it lasts."""
        self._hindrances += 1
        if self._hindrances >= MOST_HINDRANCES:
            raise BrokenSlotError(f"{cause.error}: {cause.message} (for {MOST_HINDRANCES} bundles in a row)")
        self.pause(self._hindrances)

    def pause(self, times: int) -> None:
        """Waits before the next try: half a second, then twice as long each time in a row."""
        until = time.monotonic() + min(LONGEST_PAUSE_S, 2.0 ** (times - 2))
        while time.monotonic() < until and not self._stop_reason():
            self._pulse.say()
            time.sleep(TICK_S)
