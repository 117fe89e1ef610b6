"""The samples that the ruler benchmark makes itself: as long as asked for, and the same every time."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from hpc_bench.benchmarks.generated.fill import most_units
from hpc_bench.benchmarks.generated.ruler import TASKS
from hpc_bench.values import Sample
from tests.support.ruler_sources import RulerMaker, demo_tokens, word_tokens, write_sources


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> RulerMaker:
    return RulerMaker(**write_sources(tmp_path_factory.mktemp("sources")))


def length_of(sample: Sample, tokens: Callable[[str], int]) -> int:
    """With the answer."""
    parts = (sample.context, sample.question, sample.answer_prefix)
    return sum(map(tokens, parts)) + sample.max_new_tokens


@pytest.mark.parametrize("length", [512, 2048, 8192])
@pytest.mark.parametrize("task", TASKS)
def test_length_is_filled_within_two_percent_and_never_exceeded(make: RulerMaker, task: str, length: int) -> None:
    tokens = word_tokens if (task, length) in {("qa_1", 512), ("qa_2", 512)} else demo_tokens
    # the demo tokenizer spells out a document's heading: 17 tokens, or no document

    lengths = [length_of(sample, tokens) for sample in make(f"{length}_{task}", tokens=tokens)]

    assert lengths
    assert 0.98 * length <= min(lengths)
    assert max(lengths) <= length


@pytest.mark.parametrize("task", TASKS)
def test_another_tokenizer_gets_its_own_length(make: RulerMaker, task: str) -> None:
    lengths = [length_of(sample, word_tokens) for sample in make(f"3000_{task}", tokens=word_tokens)]

    assert 0.98 * 3000 <= min(lengths) <= max(lengths) <= 3000


@pytest.mark.parametrize("task", TASKS)
def test_long_text_is_tokenized_a_few_times_only(make: RulerMaker, task: str) -> None:
    read = 0

    def tokens(text: str) -> int:
        nonlocal read
        read += len(text)
        return word_tokens(text)

    (sample,) = make(f"16384_{task}", samples=1, tokens=tokens)

    assert read < 10 * len(sample.context)


@pytest.mark.parametrize("task", TASKS)
def test_samples_depend_on_seed_and_length_alone(make: RulerMaker, task: str) -> None:
    first, again = make(f"1024_{task}"), make(f"1024_{task}")

    assert first == again
    assert len({sample.sample_id for sample in first}) == len(first) == 3
    assert len({sample.context for sample in first}) == 3
    assert make(f"1024_{task}", samples=2) == first[:2]
    assert make(f"1024_{task}", seed=1)[0].context != first[0].context


def test_text_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib, sys; from hpc_bench.benchmarks.suites.ruler import Ruler;"
        "made = [x for t in ('niah_multikey_2', 'vt', 'cwe', 'fwe')"
        "        for x in Ruler(source='generate', samples=1).load(f'9000_{t}', len)];"
        "sys.stdout.write(hashlib.sha256(repr(made).encode()).hexdigest())"
    )

    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


@pytest.mark.parametrize("growth", [0.4, 1, 3.7, 50])
@pytest.mark.parametrize("budget", [30, 499, 10_000])
def test_most_units_that_fit_are_found_in_few_measurements(growth: float, budget: int) -> None:
    calls = 0

    def measure(units: int) -> int:
        nonlocal calls
        calls += 1
        return 20 + int(units * growth)

    units = most_units(measure, budget)

    assert units is not None
    assert 20 + int(units * growth) <= budget
    assert 20 + int((units + 1) * growth) >= budget - budget // 500
    assert calls <= 12
    assert most_units(measure, 19) is None
