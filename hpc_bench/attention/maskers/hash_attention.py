"""HashAttention: keys whose learned bit codes agree most with the query's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from hpc_bench.attention.base import BUDGET, AttentionInputs, Masker, check_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.attention.model_shape import ModelShape

__all__ = ["Activation", "HashAttention", "hash_shapes", "hash_values"]

Activation = Literal["silu", "relu", "gelu", "tanh"]


@dataclass(frozen=True)
class _Codes:
    weights: Mapping[str, Tensor]
    """This layer's tensors, on the keys' device, without the prefix `layers.<i>.`"""
    codes: Tensor
    """float32 [batch, kv_heads, keys, bits], -1 or 1"""


@dataclass(frozen=True)
class HashAttention(Masker):
    """Keeps, per head and query, the `heavy` keys not kept yet whose codes share most bits with the query's code.

    Codes are the signs of what two small networks make of queries and keys, one each a head, with `mlp_layers` linear
    maps: head_dim -> mlp_hidden -> ... -> bits.
    """

    source: ClassVar[str] = "HashAttention, arXiv 2412.14468, section 4"

    heavy: int | float = field(metadata=doc(BUDGET))
    weights: str = field(metadata={"file": True, **doc("A file made by `hpc-bench attention train-hash`.")})
    bits: int = 32
    mlp_layers: int = 3
    mlp_hidden: int = 128
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        from hpc_bench.attention.tensor_file import check_file

        check_size("heavy", self.heavy)
        for name, most in (("bits", 1024), ("mlp_layers", 16), ("mlp_hidden", 8192)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 1 to {most}")
        check_file("weights", self.weights, "train-hash")

    def check_model(self, shape: ModelShape) -> None:
        """Two networks of the named size for each layer."""
        from hpc_bench.attention.tensor_file import check_shapes

        one = hash_shapes(shape, self.bits, self.mlp_layers, self.mlp_hidden)
        wanted = {f"layers.{layer}.{name}": size for layer in range(shape.layers) for name, size in one.items()}
        check_shapes("weights", self.weights, wanted)

    def read(self, inputs: AttentionInputs) -> _Codes:
        """Codes of the new keys; of all, if the earlier ones were not read."""
        from hpc_bench.attention.key_notes import note_keys

        memo: _Codes | None = inputs.memo
        weights = memo.weights if memo else self._weights(inputs)
        make = partial(self._codes, weights, "key")
        return _Codes(weights, note_keys(inputs, memo.codes if memo else None, make))

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Ranks by the number of equal bits."""
        from hpc_bench.attention.scores import grouped_product, keep_best

        memo: _Codes = inputs.memo
        query = self._codes(memo.weights, "query", inputs.query)
        return keep_best(inputs, kept, grouped_product(query, memo.codes), self.heavy)

    def _weights(self, inputs: AttentionInputs) -> Mapping[str, Tensor]:
        from hpc_bench.attention.tensor_file import load_tensors

        prefix, device = f"layers.{inputs.layer}.", inputs.key.device
        tensors = load_tensors(self.weights).items()
        return {name.removeprefix(prefix): t.float().to(device) for name, t in tensors if name.startswith(prefix)}

    def _codes(self, weights: Mapping[str, Tensor], which: str, values: Tensor) -> Tensor:
        made = hash_values(weights, which, values, self.mlp_layers, self.activation)
        return (made >= 0).float() * 2 - 1


def hash_shapes(shape: ModelShape, bits: int, mlp_layers: int, mlp_hidden: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer: <query|key>.<n>.weight [heads, in, out] and .bias [heads, out]; heads of a key network
    are the model's key heads.
    """
    sizes = [shape.head_dim, *[mlp_hidden] * (mlp_layers - 1), bits]
    shapes: dict[str, tuple[int, ...]] = {}
    for which, heads in (("query", shape.heads), ("key", shape.kv_heads)):
        for n, (before, after) in enumerate(itertools.pairwise(sizes)):
            shapes[f"{which}.{n}.weight"] = (heads, before, after)
            shapes[f"{which}.{n}.bias"] = (heads, after)
    return shapes


def hash_values(
    weights: Mapping[str, Tensor], which: str, values: Tensor, mlp_layers: int, activation: Activation
) -> Tensor:
    """float32 [batch, heads, n, bits] from values [batch, heads, n, head_dim]; the signs are the code."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "silu": F.silu,
        "relu": F.relu,
        "gelu": F.gelu,
        "tanh": torch.tanh,
    }
    act = functions[activation]
    made = values.float()
    for n in range(mlp_layers):
        made = made @ weights[f"{which}.{n}.weight"] + weights[f"{which}.{n}.bias"][:, None]
        made = made if n == mlp_layers - 1 else act(made)
    return made
