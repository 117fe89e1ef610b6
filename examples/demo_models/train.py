"""Trains a demo model: a genuine, tiny Llama that finds needles in text, on a CPU, in minutes.

python examples/demo_models/train.py --layers 2 --steps 1200 --out /tmp/tiny-2l
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from batches import LEVELS, Batches, Level
from model import MAX_POSITIONS, build_model, draw_jumps
from tokenizer import build_tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Settings:
    """The command line; the defaults are those of tiny-2l (tiny-4l: 4 layers, 1,500 steps)."""

    out: str
    layers: int = 2
    steps: int = 1200
    tokens: int = 4096
    """In a batch, at every sequence length."""
    matrix_lr: float = 1e-3
    other_lr: float = 5e-3
    text_weight: float = 0.1
    """The loss of tokens that are no answers; answers weigh 1."""
    advance_at: float = 0.9
    """The smoothed answer accuracy at which the next level begins."""
    seed: int = 0
    threads: int = 2


@dataclass
class Curriculum:
    """Where the training stands: the level, and the answer accuracy on it, smoothed."""

    advance_at: float
    index: int = 0
    accuracy: float = 0.0

    @property
    def level(self) -> Level:
        """What to train on now."""
        return LEVELS[self.index]

    def update(self, accuracy: float) -> None:
        """Counts one step's accuracy; moves on when the level is learnt."""
        self.accuracy = 0.9 * self.accuracy + 0.1 * accuracy
        if self.accuracy > self.advance_at and self.index < len(LEVELS) - 1:
            self.index, self.accuracy = self.index + 1, 0.0


class Trainer:
    """One model, its optimizers and its random streams."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.tokenizer = build_tokenizer(MAX_POSITIONS)
        self.model = build_model(settings.layers, self.tokenizer)
        self.optimizers = make_optimizers(self.model, settings)
        self.curriculum = Curriculum(settings.advance_at)
        self._batches = Batches(self.tokenizer, settings.seed + 1)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._stops = torch.tensor(self.tokenizer.convert_tokens_to_ids([".", "Ċ"]))

    def step(self, done: float) -> str:
        """One update after the share `done` of all steps; returns a line for the log."""
        level = self.curriculum.level
        ids, is_answer = self._batches.draw(level, max(1, self.settings.tokens // level.length))
        logits = self._forward(ids, self._draw_positions(ids, level))
        answer_loss, text_loss = split_loss(logits, ids, is_answer, self.tokenizer.pad_token_id)
        (answer_loss + self.settings.text_weight * text_loss).backward()
        self._update(done)
        right = (logits.argmax(-1) == ids[:, 1:])[is_answer[:, 1:]]
        self.curriculum.update(right.float().mean().item())
        return f"length {level.length}, answer loss {answer_loss:.3f}, accuracy {self.curriculum.accuracy:.3f}"

    def _draw_positions(self, ids: torch.Tensor, level: Level) -> torch.Tensor:
        if torch.rand((), generator=self._generator) < level.jump_share:
            return draw_jumps(torch.isin(ids, self._stops), self._generator)
        return torch.arange(level.length).expand_as(ids)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits [batch, length - 1, vocabulary]."""
        # Without a mask, transformers takes jumps in the positions for the seams of packed sequences.
        mask = torch.ones_like(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.model.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)[0]
            return self.model.lm_head(hidden[:, :-1])

    def _update(self, done: float) -> None:
        """A short warm-up, a plateau, and a linear decay over the last 40 % of the steps."""
        scale = min(1.0, (done * self.settings.steps + 1) / 20, 2.5 * (1 - done))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def make_optimizers(model: LlamaForCausalLM, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for embeddings and norms."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    muon = torch.optim.Muon(
        [{"params": matrices, "initial_lr": settings.matrix_lr}],
        weight_decay=0.01,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [{"params": others, "initial_lr": settings.other_lr}], betas=(0.9, 0.98), weight_decay=0.0
    )
    return [muon, adamw]


def split_loss(
    logits: torch.Tensor, ids: torch.Tensor, is_answer: torch.Tensor, pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cross entropy of answer tokens, and of all others but padding."""
    target, is_answer = ids[:, 1:], is_answer[:, 1:]
    loss = functional.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    return loss[is_answer].mean(), loss[(target != pad) & ~is_answer].mean()


def train(settings: Settings) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Trains for the number of steps set, with a line of progress every 20."""
    trainer, start = Trainer(settings), time.monotonic()
    for step in range(settings.steps):
        line = trainer.step(step / settings.steps)
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}, {(time.monotonic() - start) / 60:.1f} min: {line}", flush=True)
    return trainer.model, trainer.tokenizer


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes bf16 safetensors and the tokenizer, as from_pretrained reads them."""
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def parse_settings() -> Settings:
    """The settings from the command line, one option a field."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the weights and the tokenizer")
    for field in fields(Settings)[1:]:
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    return Settings(**vars(parser.parse_args()))


def main() -> None:
    """Trains and saves."""
    settings = parse_settings()
    model, tokenizer = train(settings)
    save(model, tokenizer, Path(settings.out))
    print(f"saved to {settings.out}")


if __name__ == "__main__":
    main()
