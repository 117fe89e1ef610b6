import subprocess
import sys
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer

from hpc_bench.benchmarks.generated.needle_text import INTRO, NEEDLE
from hpc_bench.benchmarks.metrics.string_match import string_match
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.errors import PluginError, SweepError
from hpc_bench.values import Sample
from tests.support.places import TINY

_TOKENIZER = Tokenizer.from_file(str(TINY / "tokenizer.json"))


def demo_tokens(text: str) -> int:
    return len(_TOKENIZER.encode(text, add_special_tokens=False).ids)


def byte_tokens(text: str) -> int:
    return len(text.encode())


def prefixing_tokens(text: str) -> int:
    """Counts four characters a token, and one for the start of every text, as SentencePiece may do."""
    return 1 + (len(text) + 3) // 4


def tokens_of(sample: Sample, tokens: Callable[[str], int]) -> int:
    return tokens(sample.context + sample.question + sample.answer_prefix)


@pytest.mark.parametrize("tokens", [demo_tokens, byte_tokens, prefixing_tokens])
@pytest.mark.parametrize("subset", ["512", "1000", "2048", "8192"])
def test_prompts_fill_the_length_and_never_exceed_it(tokens: Callable[[str], int], subset: str) -> None:
    shortest_sentence = tokens("There was a old map near the river.") + 2

    lengths = [tokens_of(sample, tokens) for sample in Needle(samples=12).load(subset, tokens)]

    free = 16  # the answer's
    questions_differ_by = tokens("apple apricot banana") * 2
    assert max(lengths) <= int(subset) - free
    assert min(lengths) >= int(subset) - free - shortest_sentence - questions_differ_by


def test_shortest_subset_fits_as_well() -> None:
    samples = list(Needle(samples=8).load("128", demo_tokens))

    assert all(102 <= tokens_of(sample, demo_tokens) <= 112 for sample in samples)


def test_length_that_cannot_hold_a_needle_is_an_error() -> None:
    with pytest.raises(PluginError, match="choose a longer subset"):
        list(Needle().load("128", byte_tokens))


def test_context_with_fewer_needles_than_questions_asks_each_once() -> None:
    samples = list(Needle(samples=5).load("330", byte_tokens))

    questions = [(sample.context, sample.question) for sample in samples]
    assert len(samples) == 5
    assert len(set(questions)) == 5


def test_long_text_is_not_tokenized_again_for_every_sentence() -> None:
    read = 0

    def tokens(text: str) -> int:
        nonlocal read
        read += len(text)
        return byte_tokens(text)

    (sample,) = Needle(samples=1).load("131072", tokens)

    assert read < 12 * len(sample.context)


def test_asked_needle_is_in_the_context_at_its_depth() -> None:
    for sample in Needle(samples=20).load("1024", demo_tokens):
        key = sample.answer_prefix.split()[-2]
        needle = NEEDLE.format(key, sample.references[0])
        last = len(sample.context) - len(needle) - len(INTRO)

        assert sample.context.count(needle) == 1
        assert sample.context.count(f" {key} ") == 1
        assert sample.extra["depth"] == pytest.approx(100 * (sample.context.index(needle) - len(INTRO)) / last, abs=0.1)


def test_values_of_a_context_are_distinct() -> None:
    (sample,) = Needle(samples=1).load("2048", demo_tokens)

    values = [text.split(".")[0] for text in sample.context.split("is ") if text[:4].isdigit()]

    assert len(values) == len(set(values)) == 96


@pytest.mark.parametrize("samples", [20, 100])
def test_depths_are_spread_evenly(samples: int) -> None:
    depths = [float(str(sample.extra["depth"])) for sample in Needle(samples=samples).load("2048", demo_tokens)]

    for start in (0, 20, 40, 60, 80):
        share = sum(start <= depth < start + 20 or (start == 80 and depth == 100) for depth in depths) / samples
        assert 0.1 <= share <= 0.3


def test_samples_of_one_context_are_adjacent_and_ids_unique() -> None:
    samples = list(Needle(samples=10, questions_per_context=4).load("512", demo_tokens))

    assert [sample.sample_id for sample in samples][:5] == ["0000-0", "0000-1", "0000-2", "0000-3", "0001-0"]
    assert len({sample.sample_id for sample in samples}) == len(samples) == 10
    contexts = [sample.context for sample in samples]
    assert [contexts.count(context) for context in dict.fromkeys(contexts)] == [4, 4, 2]
    assert contexts == sorted(contexts, key=contexts.index)


def test_text_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib, sys; from hpc_bench.benchmarks.suites.needle import Needle;"
        "s = [x.context + x.question for x in Needle(samples=8).load('512', len)];"
        "sys.stdout.write(hashlib.sha256(''.join(s).encode()).hexdigest())"
    )

    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_seed_and_length_change_the_text() -> None:
    texts = {
        next(iter(Needle(samples=1, seed=seed).load(subset, demo_tokens))).context[:400]
        for seed, subset in [(0, "512"), (1, "512"), (0, "513")]
    }

    assert len(texts) == 3


@pytest.mark.parametrize("subset", ["128", "256", "1000", "131072", "1048576"])
def test_any_length_is_a_subset(subset: str) -> None:
    assert Needle().check_subset(subset) == subset


@pytest.mark.parametrize("subset", ["0512", "127", "1048577", "4k", "", " 512", "512\n", "-512", "٥١٢", "5.12e2"])
def test_other_subsets_are_refused_with_what_is_allowed(subset: str) -> None:
    with pytest.raises(SweepError, match="from 128 to 1048576"):
        Needle().check_subset(subset)


@pytest.mark.parametrize("options", [{"samples": 0}, {"questions_per_context": 0}])
def test_counts_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Needle(**options)


@pytest.mark.parametrize(
    ("prediction", "references", "match"),
    [
        (" 4829", ("4829",), 1),
        ("It is 4829.\x01Thanks", ("4829",), 1),
        ("ABC-def", ("abc-DEF",), 1),
        ("4829 and 17", ("4829", "1717"), 0.5),
        ("482 9", ("4829",), 0),
        ("48\x0029", ("4829",), 0),
        ("", ("4829",), 0),
    ],
)
def test_string_match_counts_contained_references(prediction: str, references: tuple[str, ...], match: float) -> None:
    assert string_match(prediction, references) == match


def test_scores_are_split_by_depth_and_empty_bins_are_absent() -> None:
    samples = [
        Sample(str(index), "context", "question", ("1234",), 16, extra={"depth": depth})
        for index, depth in enumerate([0.0, 19.9, 20.0, 100.0])
    ]

    scores = Needle().score(samples, ["1234", "no", "no", "it is 1234"])

    assert scores.score == 50.0
    assert scores.metrics["string_match"].value == 50.0
    assert [row["string_match"] for row in scores.per_sample] == [100.0, 0.0, 0.0, 100.0]
    assert scores.by == {"depth": {"0-20": 50.0, "20-40": 0.0, "80-100": 100.0}}
