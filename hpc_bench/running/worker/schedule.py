"""Which bundle a worker takes next: its loaded model first, the costliest first, then where most work is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from hpc_bench.execution.attempts.board import Board, State, claim_attempt
from hpc_bench.execution.attempts.claims import Claim, Outcome
from hpc_bench.execution.manifest import Manifest, manifest_version, read_manifest
from hpc_bench.execution.stub import Stub
from hpc_bench.running.bundles import Bundle, bundle_stubs
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.worker.pulse import BrokenSlotError

__all__ = ["Schedule", "Share"]

_FRESH_S = 10.0
_REFRESH_SHARE = 0.05
"""Reading the board may take this share of a worker's time, also with 100,000 stubs."""


@dataclass(frozen=True)
class Share:
    """A worker's part of the work: it is the `index`-th of about `slots` workers."""

    index: int
    slots: int
    gpus: int
    """Of its slot; 0 is the CPU, which may run every model."""
    exact_gpus: bool = False
    """Whether it leaves models that need fewer GPUs to others."""


class Schedule:
    """One worker's view of the work that is left."""

    def __init__(self, manifest: Manifest, board: Board, worker: str, share: Share, look: PatientLook) -> None:
        self.manifest = manifest
        self._look = look
        self._version = self._look.at(lambda: manifest_version(board.execution))
        self._board = board
        self._worker = worker
        self._share = share
        self._bundles = 0
        self._queue: list[Bundle] = []
        self._first_model: str | None = None
        self._expires = 0.0

    def claim_next(self, loaded: str | None) -> list[Claim]:
        """Claims the stubs of the best bundle for an engine that holds the model `loaded`; [] if none is left."""
        while True:
            fresh = self.is_outdated or not self._queue or time.monotonic() > self._expires
            if fresh:
                self._refresh()
            while self._queue:
                bundle = self._pick(loaded)
                self._queue.remove(bundle)
                claims = self._claim(bundle)
                if claims:
                    return claims
            if fresh:
                return []

    @property
    def is_outdated(self) -> bool:
        """Whether a submission replaced the manifest since it was read."""
        return self._look.at(lambda: manifest_version(self._board.execution)) != self._version

    def has_work(self) -> bool:
        """Whether something is left to claim, by a fresh look."""
        self._refresh()
        return bool(self._queue)

    @property
    def is_unsettled(self) -> bool:
        """Whether something may turn out to be left for this worker within a minute."""
        mine = [stub for stub in self.manifest.stubs if self._serves(stub.model)]
        return self._look.at(lambda: self._board.is_unsettled(mine))

    def forget(self) -> None:
        """Reads everything again before the next claim."""
        self._queue = []

    def is_in_good_hands(self, loaded: str | None) -> bool:
        """Whether all that is left is of models other than `loaded` that living workers are at."""
        if loaded is None or any(bundle.model == loaded for bundle in self._queue):
            return False
        self._refresh()
        left = {bundle.model for bundle in self._queue}
        if not left or loaded in left:
            return False
        return left <= self._models_in_hand()

    def _models_in_hand(self) -> set[str]:
        """Those that living workers are at; between two bundles a worker is still at the model of its last one."""
        held = {key for worker in self._board.workers.values() if worker.alive for key in worker.heartbeat.samples}
        holding = [stub for stub in self.manifest.stubs if stub.key in held]
        return {stub.model for stub in (*holding, *self._in_state("running"))}

    def earlier_outcomes(self, claim: Claim) -> list[Outcome]:
        """How the attempts before a claim's ended, from the first that may be charged."""
        return self._look.at(lambda: self._board.earlier_outcomes(claim.stub.key, claim.attempt))

    def claim_all(self, met: Sequence[Claim], shares: Callable[[Stub], bool]) -> Iterator[Claim]:
        """Claims every free stub that `shares` a cause of failure, to record it.

        Only those charged less often than the stubs that met the cause, and are charged with it, so that one cause
        never uses up two attempts of a stub.
        """
        self._refresh()
        self._queue = []
        most = self._look.at(lambda: max(self._board.charged(claim.stub) for claim in met))
        for stub in self._in_state("pending"):
            if shares(stub) and self._look.at(partial(self._board.charged, stub)) < most:
                claim = self._look.at(partial(claim_attempt, self._board, stub, self._worker))
                if claim:
                    yield claim

    def _refresh(self) -> None:
        started = time.monotonic()
        self._follow_manifest()
        self._look.at(self._board.refresh)
        mine = [stub for stub in self._unfinished() if self._serves(stub.model)]
        self._queue = bundle_stubs(self.manifest.header, mine, self._share.slots)
        self._queue.sort(key=lambda bundle: -bundle.cost_s)
        now = time.monotonic()
        self._expires = now + max(_FRESH_S, (now - started) / _REFRESH_SHARE)

    def _unfinished(self) -> list[Stub]:
        """The pending stubs. Of those that a lost worker failed, whom nobody claims again, the outcome is written."""
        states = self._look.at(lambda: [self._board.state(stub).state for stub in self.manifest.stubs])
        pending = []
        for stub, state in zip(self.manifest.stubs, states, strict=True):
            if state == "pending":
                pending.append(stub)
            elif state == "failed":
                self._look.at(partial(self._board.settle, stub))
        return pending

    def _follow_manifest(self) -> None:
        """A later submission replaces the manifest whole; its stubs are this worker's as well."""
        if self.is_outdated:
            self._version = self._look.at(lambda: manifest_version(self._board.execution))
            self.manifest = self._look.at(lambda: read_manifest(self._board.execution))
            self._board.follow(self.manifest.header)

    def _serves(self, model: str) -> bool:
        needed, mine = self.manifest.header.models[model].gpus, self._share.gpus
        return not mine or needed == mine or (needed < mine and not self._share.exact_gpus)

    def _in_state(self, state: State) -> list[Stub]:
        board = self._board
        return self._look.at(lambda: [stub for stub in self.manifest.stubs if board.state(stub).state == state])

    def _claim(self, bundle: Bundle) -> list[Claim]:
        """Claims the stubs of a bundle; leaves it to the other worker if that one was faster at its first stub."""
        self._bundles += 1
        claims: list[Claim] = []
        name = f"{self._worker}.{self._bundles}"
        for stub in bundle.stubs:
            try:
                claim = self._look.at(partial(claim_attempt, self._board, stub, self._worker, name))
            except OSError as error:
                if claims:  # an outcome must come of these, whatever the filesystem says of the others
                    break
                raise BrokenSlotError(f"nothing can be claimed in {self._board.execution.claims}: {error}") from error
            if claim is None and not claims:
                break
            if claim is not None:
                claims.append(claim)
        return claims

    def _pick(self, loaded: str | None) -> Bundle:
        """The costliest bundle of the loaded model, else of this worker's share, else of the model with most left."""
        left: dict[str, float] = {}
        for bundle in self._queue:
            left[bundle.model] = left.get(bundle.model, 0.0) + bundle.cost_s
        if loaded in left:
            model = loaded
        elif self._first_model is None:
            model = self._first_choice(left)
        else:
            model = max(left, key=lambda name: left[name])
        self._first_model = self._first_model or model
        return next(bundle for bundle in self._queue if bundle.model == model)

    def _first_choice(self, left: dict[str, float]) -> str:
        """The model in whose part of the total cost the worker's place falls, models laid end to end."""
        threshold, model = (self._share.index + 0.5) / self._share.slots * sum(left.values()), ""
        for model in self.manifest.header.models:
            threshold -= left.get(model, 0.0)
            if model in left and threshold <= 0:
                return model
        return max(left, key=lambda name: left[name])
