"""Double Sparsity: scores from the few channels that matter most, as found offline for each key head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hpc_bench.attention.base import BUDGET, AttentionInputs, Masker, check_size
from hpc_bench.options import doc

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.attention.model_shape import ModelShape

__all__ = ["DoubleSparsity"]


@dataclass(frozen=True)
class _Labels:
    channels: Tensor
    """int64 [kv_heads, labels], on the keys' device"""
    labels: Tensor
    """float32 [batch, kv_heads, keys, labels]: the channels of each key, quantized"""


@dataclass(frozen=True)
class DoubleSparsity(Masker):
    """Keeps, per head and query, the `heavy` keys not kept yet that score highest in the label channels."""

    source: ClassVar[str] = "Double Sparsity, arXiv 2408.07092, section 3"

    heavy: int | float = field(metadata=doc(BUDGET))
    channels: str = field(
        metadata={
            "file": True,
            **doc(
                "A file made by `hpc-bench attention calibrate-channels`: layers.<i>.channels, int64 "
                "[kv_heads, head_dim]."
            ),
        }
    )
    group_factor: int = field(default=16, metadata=doc("head_dim / group_factor channels are labels."))
    label_bits: int = field(default=4, metadata=doc("Bits of a label; 16: not quantized."))

    def __post_init__(self) -> None:
        from hpc_bench.attention.quantization import check_bits
        from hpc_bench.attention.tensor_file import check_file

        check_size("heavy", self.heavy)
        check_bits("label_bits", self.label_bits)
        if self.group_factor < 1:
            raise ValueError("group_factor must be at least 1")
        check_file("channels", self.channels, "calibrate-channels")

    def check_model(self, shape: ModelShape) -> None:
        """One order of all channels for each key head of each layer."""
        from hpc_bench.attention.tensor_file import check_shapes

        if self.group_factor > shape.head_dim:
            raise ValueError(f"group_factor must be at most the model's head size, {shape.head_dim}")
        wanted = {f"layers.{layer}.channels": (shape.kv_heads, shape.head_dim) for layer in range(shape.layers)}
        check_shapes("channels", self.channels, wanted)

    def read(self, inputs: AttentionInputs) -> _Labels:
        """Labels the new keys; all of them, if the earlier ones were not read."""
        from hpc_bench.attention.key_notes import note_keys
        from hpc_bench.attention.quantization import rounded

        memo: _Labels | None = inputs.memo
        channels = memo.channels if memo else self._channels(inputs)
        make = lambda key: rounded(_pick(key, channels), self.label_bits)  # noqa: E731
        return _Labels(channels, note_keys(inputs, memo.labels if memo else None, make))

    def _channels(self, inputs: AttentionInputs) -> Tensor:
        import torch

        from hpc_bench.attention.tensor_file import load_tensors

        order = load_tensors(self.channels)[f"layers.{inputs.layer}.channels"]
        labels = max(1, inputs.key.shape[-1] // self.group_factor)
        if not (order.sort(-1).values == torch.arange(order.shape[-1])).all():
            raise ValueError(
                f"channels: {self.channels} does not hold an order of all channels for layer {inputs.layer}"
            )
        return order[:, :labels].long().to(inputs.key.device)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Ranks by the product of query and label over the label channels."""
        from hpc_bench.attention.scores import grouped_product, keep_best, per_query_head

        memo: _Labels = inputs.memo
        query = _pick(inputs.query, per_query_head(memo.channels[None], inputs.query.shape[1])[0])
        return keep_best(inputs, kept, grouped_product(query, memo.labels), self.heavy)


def _pick(values: Tensor, channels: Tensor) -> Tensor:
    """values [batch, heads, n, head_dim] at channels [heads, labels]: [batch, heads, n, labels]."""
    index = channels[None, :, None, :].expand(values.shape[0], -1, values.shape[2], -1)
    return values.gather(-1, index)
