"""Made-up questions with answers of plausible lengths, for each metric of each benchmark, to measure scorers with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from itertools import islice

from hpc_bench.benchmarks.generated.ruler_text import nonce_words
from hpc_bench.values import Sample

__all__ = ["CASES", "make_cases"]

Draw = random.Random
Case = tuple[str | tuple[str, ...], str]
"""References and prediction."""

WORDS = list(islice(nonce_words(Draw(0)), 5_000))
CHINESE = (  # noqa: SIM905 - a list would take forty lines
    "我们 在 北京大学 会议 讨论 计划 经济 发展 学生 老师 问题 研究 公司 市场 技术 报告 认为 需要 提高 工作 城市 "
    "环境 保护 政府 社会 教育 历史 文化 生活 健康 的 和 了 是 对 与"
).split()
CLASSES = [" ".join(WORDS[4_900 + 2 * number : 4_902 + 2 * number]) for number in range(50)]


def words(draw: Draw, count: int) -> str:
    """Sentences of about twelve words."""
    chosen = draw.choices(WORDS, k=count)
    chosen[11::12] = [f"{word}." for word in chosen[11::12]]
    return " ".join(chosen)


def chinese(draw: Draw, characters: int) -> str:
    """Clauses of about ten words, between commas."""
    chosen = draw.choices(CHINESE, k=characters // 2)
    chosen[9::10] = [f"{word}，" for word in chosen[9::10]]  # noqa: RUF001
    return "".join(chosen)


def text_pair(draw: Draw, wanted: int, said: int, references: int = 1) -> Case:
    """English of so many words; the prediction begins like the first reference."""
    texts = tuple(words(draw, wanted) for _ in range(references))
    return texts, " ".join((texts[0] + " " + words(draw, said)).split()[wanted // 2 : wanted // 2 + said])


def chinese_pair(draw: Draw, wanted: int, said: int, references: int = 1) -> Case:
    """The same in Chinese, of so many characters."""
    texts = tuple(chinese(draw, wanted) for _ in range(references))
    return texts, (texts[0] + chinese(draw, said))[wanted // 2 : wanted // 2 + said]


def code_pair(draw: Draw) -> Case:
    line = f"    {draw.choice(WORDS)} = {draw.choice(WORDS)}({draw.choice(WORDS)}, {draw.randrange(100)})"
    return line, "\n".join(["# next", line.replace("=", "+="), *(f"    {words(draw, 4)}" for _ in range(6))])


def number_pair(draw: Draw, form: str = "{}", digits: int = 3) -> Case:
    number = draw.randrange(10 ** (digits - 1), 10**digits)
    return form.format(number), f"{form.format(number)}, or {form.format(draw.randrange(10**digits))} {words(draw, 12)}"


def choice_pair(draw: Draw, said: int) -> Case:
    return draw.choice("ABCD"), f"{words(draw, said)} The correct answer is ({draw.choice('ABCD')})."


def option_pair(draw: Draw, said: int) -> Case:
    return f"{draw.choice('ABCD')}. {words(draw, 3)}", f"{draw.choice('ABCD')}. {words(draw, said)}"


def numbers_pair(draw: Draw) -> Case:
    """Of math_calc: some hundred numbers, of which the first half is right."""
    values = [draw.randrange(-50, 100) for _ in range(600)]
    return str(values), str(values[:300] + [value + 1 for value in values[300:]])


def cloze_pair(draw: Draw) -> Case:
    masks = {f"<mask-{number}>": words(draw, 2) for number in range(3)}
    return json.dumps(masks), str({**masks, "<mask-1>": words(draw, 2)})


def reasoning_pair(draw: Draw) -> Case:
    """Sixteen thousand tokens of thought, about, with some LaTeX, and a boxed number."""
    answer = str(draw.randrange(1_000))
    thought = "\n".join(f"{words(draw, 20)} $x_{{{n}}} = \\frac{{{n}}}{{2}}$ so {n}" for n in range(500))
    return answer, f"<think>\n{thought}\n</think>\n{words(draw, 150)} \\boxed{{{answer}}}"


def listed_pair(draw: Draw, count: int) -> Case:
    """Several references, half of which are said."""
    chosen = draw.sample(WORDS, count)
    return tuple(chosen), f"{' '.join(chosen[: count // 2])} {words(draw, 5 * count)}"


CASES: Mapping[str, Callable[[Draw], Case]] = {
    "longbench narrativeqa": lambda draw: text_pair(draw, 5, 20, 2),
    "longbench multifieldqa_zh": lambda draw: chinese_pair(draw, 30, 60),
    "longbench gov_report": lambda draw: text_pair(draw, 500, 380),
    "longbench samsum": lambda draw: text_pair(draw, 20, 30),
    "longbench dureader": lambda draw: chinese_pair(draw, 120, 180, 3),
    "longbench vcsum": lambda draw: chinese_pair(draw, 250, 500),
    "longbench trec": lambda draw: (draw.choice(CLASSES), f"{draw.choice(CLASSES)}\n{words(draw, 40)}"),
    "longbench passage_retrieval_en": lambda draw: number_pair(draw, "Paragraph {}", 2),
    "longbench passage_retrieval_zh": lambda draw: number_pair(draw, "段落{}", 2),
    "longbench passage_count": lambda draw: number_pair(draw, digits=2),
    "longbench lcc": code_pair,
    "longbenchv2 0shot": lambda draw: choice_pair(draw, 60),
    "longbenchv2 cot": lambda draw: choice_pair(draw, 600),
    "infinite_bench passkey": lambda draw: number_pair(draw, digits=5),
    "infinite_bench number_string": lambda draw: number_pair(draw, digits=10),
    "infinite_bench kv_retrieval": lambda draw: number_pair(draw, "00a0-{}-bcb", 8),
    "infinite_bench longbook_sum_eng": lambda draw: text_pair(draw, 400, 800),
    "infinite_bench longbook_choice_eng": lambda draw: option_pair(draw, 25),
    "infinite_bench longbook_qa_eng": lambda draw: text_pair(draw, 4, 25, 2),
    "infinite_bench longbook_qa_chn": lambda draw: chinese_pair(draw, 10, 50),
    "infinite_bench longdialogue_qa_eng": lambda draw: text_pair(draw, 1, 25, 2),
    "infinite_bench math_find": lambda draw: number_pair(draw),
    "infinite_bench math_calc": numbers_pair,
    "infinite_bench code_run": lambda draw: number_pair(draw, digits=2),
    "infinite_bench code_debug": lambda draw: option_pair(draw, 4),
    "loogle shortdep_qa": lambda draw: text_pair(draw, 15, 60),
    "loogle longdep_summarization": lambda draw: text_pair(draw, 250, 350),
    "loogle shortdep_cloze": cloze_pair,
    "ruler 4096_niah_multivalue": lambda draw: listed_pair(draw, 4),
    "ruler 4096_cwe": lambda draw: listed_pair(draw, 10),
    "ruler 4096_qa_1": lambda draw: text_pair(draw, 3, 25, 3),
    "needle 4096": lambda draw: number_pair(draw, digits=4),
    "aime2024": reasoning_pair,
    "mock_benchmark": lambda draw: text_pair(draw, 2, 25, 2),
    "zero_scrolls gov_report": lambda draw: text_pair(draw, 10, 600),
}


def make_cases(name: str, count: int) -> tuple[list[Sample], list[str]]:
    """So many samples with their predictions, all different."""
    draw = Draw(name)
    subset = name.partition(" ")[2]
    task = subset.removeprefix("4096_")
    samples, predictions = [], []
    for number in range(count):
        references, prediction = CASES[name](draw)
        known = (references,) if isinstance(references, str) else references
        extra = {"all_classes": list(CLASSES), "depth": 50.0, "length": "short", "difficulty": "easy"}
        samples.append(Sample(f"{number:05d}", "", "", known, 1, task=task, extra=extra))
        predictions.append(prediction)
    return samples, predictions
