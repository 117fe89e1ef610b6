"""Who pays when something goes wrong: one stub, all that share the cause, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from hpc_bench.execution.attempts.charging import MOST_LOADING_DEATHS, loading_deaths
from hpc_bench.execution.stub import Stub
from hpc_bench.running.engine.events import Cause
from hpc_bench.running.worker.open_claims import LOADING, OpenClaims
from hpc_bench.running.worker.pulse import Pulse
from hpc_bench.running.worker.schedule import Schedule
from hpc_bench.running.worker.setbacks import Setbacks

__all__ = ["Blame"]


class Blame:
    """Ends the open claims of one worker, with causes that concern more than one of them."""

    def __init__(
        self,
        open_claims: OpenClaims,
        schedule: Schedule,
        pulse: Pulse,
        setbacks: Setbacks,
        stop_reason: Callable[[], str],
    ) -> None:
        self._open = open_claims
        self._schedule = schedule
        self._pulse = pulse
        self._setbacks = setbacks
        self._stop_reason = stop_reason

    def model_failed(self, cause: Cause) -> None:
        """The model cannot be loaded."""
        model = self._open.any.stub.model
        self._share(cause, lambda stub: stub.model == model)

    def data_failed(self, cause: Cause) -> None:
        """Samples may be made with the model's tokenizer: another model may have them."""
        bundle = self._open.any.stub.bundle
        self._share(cause, lambda stub: stub.bundle == bundle)

    def data_unavailable(self, cause: Cause, *, whole: bool) -> None:
        """The data is the same for all models; of a data set that is missing altogether (`whole`), for all subsets."""
        mine = self._open.any.stub
        self._share(cause, lambda stub: stub.benchmark == mine.benchmark and (whole or stub.subset == mine.subset))

    def timed_out(self, late: Iterable[str], cause: Cause) -> None:
        """Charges the stubs of these keys, or all of the model if it was being loaded."""
        if self._open.phase == LOADING:
            self.model_failed(cause)
        else:
            self._open.fail(late, cause)
            self._open.release(f"another stub of the bundle ended the engine: {cause.message}")

    def engine_died(self, cause: Cause) -> None:
        """What that costs depends on what it was at, and on how often in a row that happened."""
        if self._open.phase != LOADING:
            self._open.die(cause)
            return
        host, model = self._pulse.beat.process.host, self._open.any.stub.model
        earlier = max(loading_deaths(self._schedule.earlier_outcomes(claim), host) for claim in self._open.all)
        deaths = self._setbacks.died_loading(model, earlier)
        if deaths < MOST_LOADING_DEATHS:
            self._open.die(cause)
            self._schedule.forget()
            self._setbacks.pause(deaths)
        else:
            self._setbacks.loaded(model)
            message = f"{cause.message} while the model was being loaded, {deaths} times in a row on {host}"
            self.model_failed(replace(cause, message=message))

    def _share(self, cause: Cause, shares: Callable[[Stub], bool]) -> None:
        """Records a cause that would fail other stubs as well for all of them, so that it is not tried a stub."""
        met = self._open.all
        self._open.fail_all(cause)
        for claim in self._schedule.claim_all(met, shares):
            self._open.put([claim])
            self._open.fail_all(cause)
            self._pulse.say()
            if self._stop_reason():
                break
