"""The figures of LooGLE for one answer, and which of them can be had on this machine."""

from __future__ import annotations

import ast
import json
import math
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpc_bench.benchmarks.metrics.rouge import rouge_l, rouge_n
from hpc_bench.errors import HubError
from hpc_bench.hub import find_cached
from hpc_bench.values import HubRepo

__all__ = ["bert_scores", "bleu", "masks_of", "matched_masks", "meteor", "meteor_gap", "overlap_scores"]

_LONGEST_DICT = 10_000
"""Characters; the authors let a model write 50 tokens, and longer text could exhaust the parser."""
_BERT_MODELS = ("FacebookAI/roberta-large", "roberta-large")
"""What bert-score takes for English, under its present and its former name."""
_BERT_LAYER = 17
"""The layer of it that bert-score compares (bert_score/utils.py, `model2layers`)."""


def overlap_scores(prediction: str, reference: str) -> dict[str, float]:
    """The recall of ROUGE-L, -1 and -2, and BLEU of one word and of four, each 0-1 (LooGLE,
    Evaluation/automatic_metrics.py, `get_bleu_score` and `get_rouge_score`).
    """
    said, wanted = _words(prediction), _words(reference)
    return {
        "rouge_l": rouge_l(prediction, reference).recall,
        "bleu1": bleu(said, wanted, 1),
        "bleu4": bleu(said, wanted, 4),
        "rouge_1": rouge_n(prediction, reference, 1).recall,
        "rouge_2": rouge_n(prediction, reference, 2).recall,
    }


def meteor(prediction: str, reference: str) -> float:
    """METEOR of the sets of words, 0-1 (LooGLE, Evaluation/automatic_metrics.py, `get_meteor_score`).

    It depends on the order of the words. The authors' is that of a Python set, which changes with every process;
    here both sets are sorted, so that an answer scores the same every time.
    """
    from nltk.translate.meteor_score import single_meteor_score

    return float(single_meteor_score(sorted(set(_words(reference))), sorted(set(_words(prediction)))))


def meteor_gap() -> str:
    """Why METEOR is not available here; empty if it can."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return "no meteor: nltk's wordnet is not here (python -m nltk.downloader wordnet)"
    return ""


def bert_scores(predictions: Sequence[str], references: Sequence[str]) -> tuple[list[float] | None, str]:
    """The BERT score of each answer, 0-1, or None and why not (LooGLE, Evaluation/automatic_metrics.py,
    `get_bertscore`: the recall, with the reference in the place of the candidate).
    """
    if find_spec("bert_score") is None:
        return None, "no bert_score: the extra `bert-score` is not installed"
    folder = _bert_model()
    if folder is None:
        return None, f"no bert_score: {_BERT_MODELS[0]} is not in the hub's cache"
    import bert_score

    # bert-score fails on a text without a word where the tokenizer is one of transformers 5.
    wanted, said = ([text if text.strip() else "None" for text in texts] for texts in (references, predictions))
    try:
        _, recall, _ = bert_score.score(wanted, said, model_type=str(folder), num_layers=_BERT_LAYER, device="cpu")
    except Exception as error:  # an extra, of any version: it must cost no result
        return None, f"no bert_score: {type(error).__name__}: {error}"
    return [float(value) for value in recall], ""


def _bert_model() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in _BERT_MODELS:
        try:
            commit, lacking = find_cached(HubRepo("model", name, "main"))
        except HubError:
            continue
        config = try_to_load_from_cache(name, "config.json", revision=commit or None)
        if not lacking and isinstance(config, str):
            return Path(config).parent
    return None


def matched_masks(prediction: str, masks: Mapping[str, Any]) -> tuple[int, int]:
    """How many masks are filled exactly, and how many share a word with what was wanted (LooGLE,
    Evaluation/automatic_metrics.py, `get_exact_match` and `get_partial_match`).

    The authors evaluate the answer as Python; here it is parsed as a literal. What is no text matches in no part.
    """
    filled = _literal_dict(prediction)
    both = [(filled[mask], wanted) for mask, wanted in masks.items() if mask in filled]
    exact = sum(said == wanted for said, wanted in both)
    partial = sum(bool(_set_of(said) & _set_of(wanted)) for said, wanted in both)
    return exact, partial


def masks_of(reference: str) -> dict[str, Any]:
    """The masks in a reference, which is a JSON object; ValueError if it is none."""
    try:
        masks = json.loads(reference)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(masks, dict):
        raise ValueError("is no JSON object")
    return masks


def _literal_dict(text: str) -> dict[Any, Any]:
    if len(text) > _LONGEST_DICT:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # odd escapes and numbers in what a model wrote
            warnings.simplefilter("ignore", DeprecationWarning)
            value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _set_of(value: Any) -> set[str]:
    return set(value.split()) if isinstance(value, str) else set()


def _words(text: str) -> list[str]:
    return text.replace("\n", " ").split()


def bleu(said: Sequence[str], wanted: Sequence[str], n: int) -> float:
    """The share of the n-grams said that are wanted, 0-1, less where fewer words are said than wanted
    (nltk/translate/bleu_score.py, `sentence_bleu` with the whole weight on n).

    0 where no word is shared. Where only no n-gram is, nltk goes on with the least float above 0, and so does this.
    """
    if not said or set(said).isdisjoint(wanted):
        return 0.0
    grams, wanted_grams = _ngrams(said, n), _ngrams(wanted, n)
    shared = (grams & wanted_grams).total()
    precision = shared / grams.total() if shared else sys.float_info.min
    brevity = 1.0 if len(said) > len(wanted) else math.exp(1 - len(wanted) / len(said))
    return brevity * math.exp(math.log(precision))


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))
