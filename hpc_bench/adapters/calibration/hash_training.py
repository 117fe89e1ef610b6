"""Which small networks give queries and their best keys equal bits? The file of the masker hash_attention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_bench.adapters.calibration.capture import LayerPiece, Piece, shape_of_pieces
from hpc_bench.adapters.calibration.recall import BEST
from hpc_bench.attention.maskers.hash_attention import Activation, hash_shapes, hash_values
from hpc_bench.attention.model_shape import ModelShape

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from hpc_bench.attention.base import AttentionInputs

__all__ = ["HashOptions", "random_planes", "train_hash", "untrained_hash"]

_BATCH = 32
"""Queries a step, all from one text."""
_RATE = 3e-3


@dataclass(frozen=True)
class HashOptions:
    """The networks' size, as in the masker, and how they are trained."""

    bits: int = 32
    mlp_layers: int = 3
    mlp_hidden: int = 128
    activation: Activation = "silu"
    steps: int = 400
    """A layer."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("bits", "mlp_layers", "mlp_hidden", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")


def train_hash(
    pieces: Sequence[Piece], options: HashOptions, device: str, advance: Callable[[], None]
) -> dict[str, Tensor]:
    """layers.<i>.<query|key>.<n>.<weight|bias> in float32, as `hash_shapes` says; `advance` is called each step."""
    weights = untrained_hash(shape_of_pieces(pieces), options)
    for number, layer in enumerate(zip(*pieces, strict=True)):
        prefix = f"layers.{number}."
        own = {name.removeprefix(prefix): part for name, part in weights.items() if name.startswith(prefix)}
        trained = _train_layer(own, layer, options, device, advance)
        weights |= {prefix + name: part for name, part in trained.items()}
    return weights


def untrained_hash(shape: ModelShape, options: HashOptions) -> dict[str, Tensor]:
    """What training starts from: normal weights that keep the size of what passes through, and no bias.

    A query network starts as its key head's, so that vectors of like direction have like codes from the beginning.
    """
    import torch

    draw = torch.Generator().manual_seed(options.seed)
    sizes = hash_shapes(shape, options.bits, options.mlp_layers, options.mlp_hidden)
    weights = {}
    for layer in range(shape.layers):
        for name, size in ((name, size) for name, size in sizes.items() if name.startswith("key.")):
            drawn = torch.randn(size, generator=draw) / math.sqrt(size[1])
            part = torch.zeros(size) if name.endswith("bias") else drawn
            weights[f"layers.{layer}.{name}"] = part
            same = part.repeat_interleave(shape.heads // shape.kv_heads, 0)
            weights[f"layers.{layer}.{name.replace('key.', 'query.')}"] = same
    return weights


def random_planes(shape: ModelShape, bits: int, seed: int) -> dict[str, Tensor]:
    """Codes that nothing was learned for, as a file with `mlp_layers=1`: on which side of `bits` random planes a
    query, and a key, lies; the planes are those of the key head.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(shape.layers):
        planes = torch.randn(shape.kv_heads, shape.head_dim, bits, generator=draw)
        for which, heads in (("query", shape.heads), ("key", shape.kv_heads)):
            weights[f"layers.{layer}.{which}.0.weight"] = planes.repeat_interleave(heads // shape.kv_heads, 0)
            weights[f"layers.{layer}.{which}.0.bias"] = torch.zeros(heads, bits)
    return weights


def _train_layer(
    weights: Mapping[str, Tensor],
    layer: Sequence[LayerPiece],
    options: HashOptions,
    device: str,
    advance: Callable[[], None],
) -> dict[str, Tensor]:
    """The trained networks of one layer, on the host."""
    import torch

    seen = [piece.inputs(device) for piece in layer]
    spread = {
        "query": _spread([one.query for one in seen], centred=False),
        "key": _spread([one.key for one in seen], centred=True),
    }
    parts = {name: part.to(device, copy=True).requires_grad_() for name, part in weights.items()}
    heads = seen[0].query.shape[1]
    sharpness = torch.full((1, heads, 1, 1), -0.5 * math.log(options.bits), device=device, requires_grad=True)
    adam = torch.optim.Adam([*parts.values(), sharpness], _RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, options.steps)
    draw = torch.Generator().manual_seed(options.seed)
    for _ in range(options.steps):
        batch = _draw_queries(seen[int(torch.randint(len(seen), (), generator=draw))], draw)
        agreement = _agreement(parts, spread, batch, options) * sharpness.exp()
        adam.zero_grad()
        _loss(agreement, batch).backward()  # type: ignore[no-untyped-call]
        adam.step()
        decay.step()
        advance()
    return {name: part.cpu() for name, part in _unspread(parts, spread).items()}


def _draw_queries(inputs: AttentionInputs, draw: Generator) -> AttentionInputs:
    """Some of the queries, and all keys."""
    import torch

    chosen = torch.randperm(inputs.query.shape[2], generator=draw)[:_BATCH].to(inputs.query.device)
    return dataclasses.replace(inputs, query=inputs.query[:, :, chosen], visible=inputs.visible[:, :, chosen])


def _agreement(
    parts: Mapping[str, Tensor],
    spread: Mapping[str, tuple[Tensor, Tensor]],
    inputs: AttentionInputs,
    options: HashOptions,
) -> Tensor:
    """How far the codes agree, with tanh in the place of the sign so that it can be learned: float32 [1, heads,
    queries, keys].
    """
    from hpc_bench.attention.scores import grouped_product

    soft = []
    for which, values in (("query", inputs.query), ("key", inputs.key)):
        mean, size = spread[which]
        made = hash_values(parts, which, (values - mean) / size, options.mlp_layers, options.activation)
        soft.append(made.tanh())
    return grouped_product(*soft)


def _loss(agreement: Tensor, inputs: AttentionInputs) -> Tensor:
    """Each of a query's best keys against all that are not: the cross entropy of choosing it among those.

    Half of a query's weight is spread evenly over its best keys, half as attention is, since losing the very best key
    costs most. HashAttention (arXiv 2412.14468, section 4) learns the same labels by a weighted binary cross entropy a
    key; contrasting a key with all others finds more of the best ones after as many steps.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    from hpc_bench.attention.scores import exact_scores

    exact = exact_scores(inputs).masked_fill(~inputs.visible, -torch.inf)
    best = exact >= exact.topk(max(1, round(BEST * exact.shape[-1])), -1).values[..., -1:]
    weight = exact.masked_fill(~best, -torch.inf).softmax(-1) + best / best.sum(-1, keepdim=True)
    others = agreement.masked_fill(~inputs.visible | best, -torch.inf).logsumexp(-1, keepdim=True)
    return (F.softplus(others - agreement) * weight).sum(-1).mean() / 2


def _spread(values: Sequence[Tensor], *, centred: bool) -> tuple[Tensor, Tensor]:
    """What is taken off and what is divided by, [1, heads, 1, head_dim]: one size a head, so that directions stay.

    The mean of the keys adds the same to all scores of a query, and so says nothing; that of the queries does.
    """
    import torch

    together = torch.cat(list(values), 2)
    mean = together.mean(2, keepdim=True) * centred
    size = (together - mean).square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    return mean, size.expand_as(mean)


def _unspread(parts: Mapping[str, Tensor], spread: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The same networks for queries and keys as they are: the first map takes over what `_spread` found."""
    whole = {name: part.detach() for name, part in parts.items()}
    for which, (mean, size) in spread.items():
        weight = whole[f"{which}.0.weight"] / size[0, :, 0, :, None]
        whole[f"{which}.0.weight"] = weight
        whole[f"{which}.0.bias"] = whole[f"{which}.0.bias"] - (mean[0] @ weight)[:, 0]
    return whole
