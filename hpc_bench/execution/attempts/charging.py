"""What a death costs: whether an attempt that the death of an engine or a worker ended counts towards max_attempts.

Most deaths are somebody else's doing: the kernel's out-of-memory killer, a reboot, an operator. A stub pays only for
those that come again and again where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpc_bench.execution.attempts.claims import Outcome

__all__ = ["MOST_DEATHS", "MOST_LOADING_DEATHS", "judge_death", "loading_deaths"]

MOST_DEATHS = 3
"""So many in a row without a new sample in its bundle, while it was being answered, are one failure of a stub."""
MOST_LOADING_DEATHS = 5
"""So many in a row on one node, while its model was being loaded, are one failure of each stub of the model."""


def judge_death(death: Outcome, earlier: Sequence[Outcome]) -> Outcome:
    """The outcome of an attempt that a death ended: charged to the stub (failed), or released.

    `earlier`: how the attempts before it ended, from the first to the last.
    """
    if death.phase == "loading":
        count, most = loading_deaths(earlier, death.host) + 1, MOST_LOADING_DEATHS
    elif death.phase == "answering" and not death.gained:
        count, most = _answering_deaths(earlier) + 1, MOST_DEATHS
    else:
        count, most = 0, MOST_DEATHS
    if count < most:
        return replace(death, state="released", death=True)
    return replace(death, state="failed", death=True, message=f"{death.message}, {most} times in a row")


def loading_deaths(earlier: Sequence[Outcome], host: str) -> int:
    """How many deaths in a row on one node ended attempts while the model was being loaded."""
    count = 0
    for outcome in reversed(earlier):
        if outcome.state == "failed" or (outcome.host == host and outcome.phase in ("waiting", "answering")):
            break
        count += outcome.death and outcome.phase == "loading" and outcome.host == host
    return count


def _answering_deaths(earlier: Sequence[Outcome]) -> int:
    count = 0
    for outcome in reversed(earlier):
        if outcome.state == "failed" or outcome.gained:
            break
        count += outcome.death and outcome.phase == "answering"
    return count
