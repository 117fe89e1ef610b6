"""What the ruler benchmark makes samples of: essays and questions as local files, and two tokenizers."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from hpc_bench.benchmarks.generated import ruler_text
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.values import Sample
from tests.support.places import TINY

_TOKENIZER = Tokenizer.from_file(str(TINY / "tokenizer.json"))


def demo_tokens(text: str) -> int:
    return len(_TOKENIZER.encode(text, add_special_tokens=False).ids)


def word_tokens(text: str) -> int:
    """About what the tokenizer of a large model makes of English."""
    return len(re.findall(r"\w{1,6}|\S", text))


def write_sources(folder: Path) -> dict[str, str]:
    """Essays, and questions in the forms of SQuAD and HotpotQA, as options of the benchmark."""
    rng = random.Random(0)
    words = list(islice(ruler_text.nonce_words(rng), 200))

    def passage(sentences: int) -> str:
        return " ".join(" ".join(rng.choices(words, k=rng.randint(4, 9))).capitalize() + "." for _ in range(sentences))

    essays = folder / "essays"
    essays.mkdir()
    for name in ("a", "b"):
        (essays / f"{name}.txt").write_text(f"{passage(60)}\n\n{passage(40)}\n")
    articles = [
        {
            "title": f"Title{number}",
            "paragraphs": [
                {
                    "context": f"{passage(2)} Value{number}x{part}.",
                    "qas": [
                        {"question": f"What is {number}x{part}?", "answers": [{"text": f"Value{number}x{part}"}] * 2},
                        {"question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
                for part in range(3)
            ],
        }
        for number in range(8)
    ]
    hops = [
        {
            "question": f"Where is {number}?",
            "answer": f"Place{number}",
            "supporting_facts": [[f"Two{number}", 0], [f"Three{number}", 0]],
            "context": [
                [f"{title}{number}", [f"{passage(1)} Place{number}.", f" {passage(1)}"]]
                for title in ("One", "Two", "Three", "Four")
            ],
        }
        for number in range(6)
    ]
    (folder / "qa_1.json").write_text(json.dumps({"data": articles}))
    (folder / "qa_2.json").write_text(json.dumps(hops))
    return {"essays": str(essays), "qa": str(folder)}


@dataclass(frozen=True)
class RulerMaker:
    """Makes samples with all the local files that a task may need."""

    essays: str
    qa: str

    def __call__(
        self, subset: str, samples: int = 3, seed: int = 0, tokens: Callable[[str], int] = demo_tokens
    ) -> list[Sample]:
        benchmark = Ruler(source="generate", samples=samples, seed=seed, essays=self.essays, qa=self.qa)
        return list(benchmark.load(subset, tokens))
