"""The demo models' training text: quizzes in the form of the needle benchmark, and a warm-up drill."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from tokenizer import EOS
from transformers import PreTrainedTokenizerFast

from hpc_bench.benchmarks.generated.needle_text import ANSWER_PREFIX, INTRO, KEYS, NEEDLE, QUESTION, draw_filler

# Tokens, about; they set how much text fits a sequence.
_NEEDLE_TOKENS, _FILLER_TOKENS, _QUESTION_TOKENS, _INTRO_TOKENS = 10, 11, 21, 20

Piece = tuple[str, bool]
"""A text and whether its tokens are answers to learn."""


@dataclass(frozen=True)
class Level:
    """One step of the curriculum."""

    length: int
    max_needles: int
    drill_share: float
    jump_share: float
    """Share of batches whose positions jump, so that short sequences hold long distances."""


LEVELS = (
    Level(length=128, max_needles=8, drill_share=1.0, jump_share=0.0),
    Level(length=160, max_needles=8, drill_share=0.5, jump_share=0.0),
    Level(length=256, max_needles=12, drill_share=0.3, jump_share=0.3),
    Level(length=512, max_needles=24, drill_share=0.1, jump_share=0.5),
    Level(length=1024, max_needles=48, drill_share=0.0, jump_share=0.5),
    Level(length=2048, max_needles=96, drill_share=0.0, jump_share=0.5),
)


class Batches:
    """Makes batches of token ids [batch, length] with a mask of the same shape that marks the answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self._rng = random.Random(seed)
        self._bos, self._pad = tokenizer.bos_token_id, tokenizer.pad_token_id
        # The tokenizer splits at spaces and newlines, so pieces encoded one by one give the ids of the whole text.
        encode = tokenizer.backend_tokenizer.encode
        self._ids = lru_cache(300_000)(lambda text: encode(text, add_special_tokens=False).ids)

    def draw(self, level: Level, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch at one level of the curriculum."""
        ids = torch.full((batch, level.length), self._pad)
        answers = torch.zeros(batch, level.length, dtype=torch.bool)
        for row in range(batch):
            row_ids, row_answers = self._encode(self._draw_pieces(level))
            used = min(level.length, len(row_ids))
            ids[row, :used] = torch.tensor(row_ids[:used])
            answers[row, :used] = torch.tensor(row_answers[:used])
        return ids, answers

    def _draw_pieces(self, level: Level) -> list[Piece]:
        if self._rng.random() < level.drill_share:
            return draw_drill(self._rng, level.length, self._rng.randint(1, level.max_needles))
        return draw_quiz(self._rng, level.length, level.max_needles)

    def _encode(self, pieces: list[Piece]) -> tuple[list[int], list[bool]]:
        ids, answers = [self._bos], [False]
        for text, is_answer in pieces:
            piece_ids = self._ids(text)
            ids += piece_ids
            answers += [is_answer] * len(piece_ids)
        return ids, answers


def draw_drill(rng: random.Random, length: int, needles: int) -> list[Piece]:
    """The same few facts stated again and again; every repetition is an answer. Teaches to copy, within minutes."""
    keys = rng.sample(KEYS, needles)
    said: dict[str, str] = {}
    pieces: list[Piece] = []
    heads = rng.choice([[" {}"], [" {} is"], [ANSWER_PREFIX], [" {}", " {} is", ANSWER_PREFIX]])
    while len(pieces) < length // 2:
        key = rng.choice(keys)
        known = key in said
        pieces.append((rng.choice(heads).format(key), False))
        pieces.append((" " + said.setdefault(key, _draw_number(rng)), known))
        pieces.append((".", False))
    return pieces


def draw_quiz(rng: random.Random, length: int, max_needles: int) -> list[Piece]:
    """A context as in the benchmark, then questions with their answers until the sequence is full."""
    questions = max(1, int(length * rng.uniform(0.3, 0.6) / _QUESTION_TOKENS))
    room = length - _QUESTION_TOKENS * questions - _INTRO_TOKENS
    needles = rng.randint(1, max(1, min(max_needles, room // _NEEDLE_TOKENS)))
    facts = {key: _draw_number(rng) for key in rng.sample(KEYS, needles)}
    sentences = [NEEDLE.format(key, number) for key, number in facts.items()]
    sentences += [draw_filler(rng) for _ in range(max(0, room - _NEEDLE_TOKENS * needles) // _FILLER_TOKENS)]
    rng.shuffle(sentences)
    pieces = [(INTRO, False), (sentences[0], False), *((" " + sentence, False) for sentence in sentences[1:])]
    for _ in range(questions + 2):  # two more than fit, so that no sequence ends in padding
        key = rng.choice(list(facts))
        question = (QUESTION + ANSWER_PREFIX).format(key, key)
        pieces += [(question, False), (" " + facts[key], True), (EOS, True)]
    return pieces


def _draw_number(rng: random.Random) -> str:
    return str(rng.randint(1000, 9999))
