"""The demo models' tokenizer: known words and two-digit groups are one token, any other text goes byte by byte."""

from __future__ import annotations

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hpc_bench.benchmarks.generated.needle_text import ANSWER_PREFIX, INTRO, KEYS, NEEDLE, QUESTION, draw_filler

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
_PIECES = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]|\s"


def build_tokenizer(max_positions: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges; `ignore_merges` looks whole words up first, as in Llama-3."""
    split = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    splitter = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    vocabulary = {token: index for index, token in enumerate(_tokens(splitter))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decoders.ByteLevel()
    tokenizer.add_special_tokens([BOS, EOS, PAD])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
    )


def _tokens(splitter: pre_tokenizers.PreTokenizer) -> list[str]:
    """Special tokens, the 256 bytes, then every word of the needle text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word for word, _ in splitter.pre_tokenize_str(_corpus())}
    return [BOS, EOS, PAD, *alphabet, *sorted(words.difference(alphabet))]


def _corpus() -> str:
    """A text in which every word occurs, with a space before it and, where it opens a line, without."""
    rng = random.Random(0)
    fillers = " ".join(draw_filler(rng) for _ in range(3000))
    question = (QUESTION + ANSWER_PREFIX).format("apple", "apple")
    needles = " ".join(NEEDLE.format(key, "") for key in KEYS)
    numbers = "".join(f" {number}" for number in [*range(1000, 10000), *range(10)])
    return f"{INTRO}{fillers}{question}\nThe\nIn\nThere\nNobody\nIt {needles}{numbers}"
