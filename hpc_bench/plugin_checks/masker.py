"""The contract of a masker: its parameters, and what it keeps in one attention layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, Masker
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.plugin_checks.contract import ContractError, require, require_dataclass, require_json
from hpc_bench.plugin_checks.layer_walk import PASSES, PLAIN, TOKENS, Course, Tensors, walk
from hpc_bench.plugin_checks.memos import check_memos
from hpc_bench.plugin_checks.watched import Case

__all__ = ["SHAPES", "check_keeping_everything", "check_masker"]

SHAPES = tuple(ModelShape(layers=1, heads=4, kv_heads=kv_heads, head_dim=16) for kv_heads in (1, 2, 4))
"""Four query heads that share one key head or two, or have one each."""

_SEEDS = 400


def check_masker(masker: Masker, *, everything: Masker | None = None, shapes: Sequence[ModelShape] = SHAPES) -> None:
    """Checks a masker against the contract of `Masker`; ContractError says what is violated.

    Choose parameters with which it leaves out some of 30 keys. `everything` is the same masker with parameters that
    keep all keys, which must equal dense attention. If the masker needs a file that fits only one model shape, name
    that shape in `shapes`.
    """
    _check_parameters(masker)
    with _small_tensors():
        for shape in shapes:
            _check_model(masker, shape)
            for check in _CHECKS:
                check(Case(masker, shape))
            if everything is not None:
                check_keeping_everything(Case(everything, shape))
        if masker.samples:
            _check_draws(Case(masker, shapes[0]))


@contextmanager
def _small_tensors() -> Iterator[None]:
    """Without gradients, as adapters run, and on one thread: more threads make such small tensors slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def _check_parameters(masker: Masker) -> None:
    name = type(masker).__name__
    require_dataclass(masker)
    try:
        hash(masker)
    except TypeError as error:
        raise ContractError(f"{name} must be hashable, since it is the key of its memos: {error}") from error
    identity = masker.identity()
    require(require_json(identity, f"{name}: identity") == identity, f"{name}: identity must be plain JSON data")
    require(masker.identity() == identity, f"{name}: identity must be the same at every call")
    require(
        masker.takes_notes or not masker.prepared_by_prefill,
        f"{name}: prepared_by_prefill is True, but it defines neither read nor observe",
    )
    has_seed = "seed" in (field.name for field in dataclasses.fields(masker))
    require(has_seed or not masker.samples, f"{name}: samples is True, which requires a field `seed`")


def _check_model(masker: Masker, shape: ModelShape) -> None:
    try:
        masker.check_model(shape)
    except ValueError as error:
        raise ContractError(
            f"{type(masker).__name__}: check_model refuses {shape}: {error}; name a shape that it fits in `shapes`"
        ) from error


def _check_something_is_left_out(case: Case) -> None:
    density = case.walk(case.tensors(seed=4)).state.density()
    require(
        density < 1, f"{case.name}: keeps all keys, so that nothing can be checked; choose parameters that keep fewer"
    )


def _check_padded_batch(case: Case) -> None:
    """Rows of different lengths, in float32 and in the usual dtype of models."""
    for dtype in (torch.float32, torch.bfloat16):
        outputs = case.walk(case.tensors(batch=3).to(dtype), Course(padding=(0, 7, 13))).outputs
        finite = all(bool(output.isfinite().all()) for output in outputs)
        require(finite, f"{case.name}: the output in a padded batch of {dtype} is not finite")


def _check_behind_others(case: Case) -> None:
    case.walk(case.tensors(), before=(_EveryFourth(),))


def _check_future(case: Case) -> None:
    what = case.tensors()
    past, asked = PASSES[0], 3
    changed = what.key.clone()
    changed[:, :, past + asked :] = 100.0
    first, second = (
        case.walk(tensors).kept[0][:, :, :asked] for tensors in (what, Tensors(what.query, changed, what.value))
    )
    require(
        torch.equal(first, second),
        f"{case.name}: the keys that are kept for a query depend on later keys, which it must not see",
    )


def _check_padding_changes_nothing(case: Case) -> None:
    hidden = 8
    alone, other, noise = case.tensors(seed=5), case.tensors(tokens=TOKENS + hidden, seed=6), case.tensors(1, hidden, 7)
    padded = Tensors(
        *(
            torch.cat([getattr(other, part), torch.cat([10 * getattr(noise, part), getattr(alone, part)], 2)])
            for part in ("query", "key", "value")
        )
    )
    together = case.walk(padded, Course(passes=(PASSES[0] + hidden, *PASSES[1:]), padding=(0, hidden)))
    single = case.walk(alone)
    violation = f"{case.name}: padding or another row of the batch changes"
    for mine, its in zip(single.kept, together.kept, strict=True):
        own = its[1:]
        require(bool((own[..., :hidden] == 0).all()), f"{case.name}: padding is kept")
        require(_equal_selection(own[..., hidden:], mine), f"{violation} what is kept")
    require(_close(single.outputs, [its[1:] for its in together.outputs], 1e-5), f"{violation} the output")


def _check_blocks(case: Case) -> None:
    """Long passes are split into blocks of queries."""
    tokens, passes = 40, (24, 14, 2)
    what = case.tensors(tokens=tokens)
    whole = case.walk(what, Course(passes))
    for rows in (1, 3):
        blocks = case.walk(what, Course(passes, largest_block=case.shape.heads * tokens * rows))
        same = all(_equal_selection(*pair) for pair in zip(blocks.kept, whole.kept, strict=True))
        require(
            same and _close(blocks.outputs, whole.outputs, 1e-6),
            f"{case.name}: what is kept changes if a pass is split into blocks of {rows} queries (the key of the first "
            "query has the index `inputs.first`)",
        )


def _check_window(case: Case) -> None:
    case.walk(case.tensors(), Course(window=10))


def _check_repeats(case: Case) -> None:
    first, second = case.walk(case.tensors()).kept, case.walk(case.tensors()).kept
    same = all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    require(
        same, f"{case.name}: what is kept differs from run to run; random numbers must depend on a parameter `seed`"
    )


def check_keeping_everything(case: Case) -> None:
    """ContractError unless the masker keeps everything, and that equals dense attention to float error."""
    courses = [(batch, torch.float32, PLAIN, 1e-5) for batch in (1, 3)]
    courses += [(1, torch.bfloat16, PLAIN, 2e-2), (1, torch.float32, Course(window=10), 1e-5)]
    for batch, dtype, course, tolerance in courses:
        what = case.tensors(batch).to(dtype)
        full = case.walk(what, course)
        density = full.state.density()
        require(density == 1.0, f"{case.name}: `everything` keeps only {density:.1%} of the keys")
        require(
            _close(full.outputs, walk((), what, course).outputs, tolerance),
            f"{case.name}: keeping everything must equal dense attention ({dtype}, batch {batch}, window "
            f"{course.window})",
        )


def _check_draws(case: Case) -> None:
    """The sum of exp(score) over the kept keys, each divided by its probability, is unbiased."""
    what, past = case.tensors(seed=3), PASSES[0]
    course = Course(passes=(past, 1))
    drawn = []
    for seed in range(_SEEDS):
        one = dataclasses.replace(case.masker, seed=seed)  # type: ignore[call-arg]  # `_check_parameters` found it
        kept = walk((Sink(2), one), what, course).kept[0].double()
        drawn.append(torch.where(kept > 0, 1 / kept.clamp(min=1e-30), 0.0))
    key = what.key[:, :, : past + 1].double().repeat_interleave(case.shape.heads // case.shape.kv_heads, 1)
    scores = (what.query[:, :, past : past + 1].double() @ key.mT * what.scale).exp()
    sums = (torch.stack(drawn) * scores).sum(-1)
    standard_error = sums.std(0) / _SEEDS**0.5
    require(bool((standard_error > 0).all()), f"{case.name}: draws the same keys with every seed")
    errors = (sums.mean(0) - scores.sum(-1)).abs()
    require(
        bool((errors < 4 * standard_error + 1e-9).all()),
        f"{case.name}: draws are biased: on average over {_SEEDS} seeds, the sum of exp(score) / p over the kept keys "
        "is not that of exp(score) over all keys, so p is not the probability with which a key is kept",
    )


_CHECKS: tuple[Callable[[Case], None], ...] = (
    _check_behind_others,
    _check_something_is_left_out,
    _check_padded_batch,
    _check_repeats,
    _check_future,
    _check_padding_changes_nothing,
    _check_blocks,
    _check_window,
    check_memos,
)


@dataclass(frozen=True)
class _EveryFourth(Masker):
    """Stands for the maskers before the one that is checked."""

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Keys 0, 4, 8, ..."""
        index = torch.arange(inputs.key.shape[2])
        return torch.where(inputs.visible & (index % 4 == 0), 1.0, kept)


def _equal_selection(one: Tensor, other: Tensor) -> bool:
    """The same keys, with probabilities that are equal to float error."""
    return torch.equal(one > 0, other > 0) and torch.allclose(one, other, atol=1e-5, rtol=1.3e-6)


def _close(some: Sequence[Tensor], others: Sequence[Tensor], tolerance: float) -> bool:
    return all(torch.allclose(*pair, atol=tolerance, rtol=tolerance) for pair in zip(some, others, strict=True))
