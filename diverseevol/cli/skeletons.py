"""What `diverseevol new` writes: for each kind of extension a few lines that work as they are, and their test."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template


@dataclass(frozen=True)
class Skeleton:
    """A kind of extension. In paths, texts and commands `$name` is the name that was chosen, `$cls` the class's.

    Attributes:
        group: the folder of `conf/` in which its choices are.
        suffix: how its class's name ends.
        files: what is written, by path in the current folder.
        command: what uses it.
    """

    group: str
    suffix: str
    files: Mapping[str, str]
    command: str

    def filled(self, name: str) -> tuple[dict[str, str], str]:
        """The files by path, and the command, for a name."""
        stem = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
        cls = stem if stem.endswith(self.suffix) and stem != self.suffix else f"{stem}{self.suffix}"

        def fill(text: str) -> str:
            return Template(text).substitute(name=name, cls=cls)

        return {fill(path): fill(text) for path, text in self.files.items()}, fill(self.command)


SAMPLER = Skeleton(
    "sampler",
    "Sampler",
    {
        "$name.py": '''\
import numpy as np

from diverseevol.samplers import Needs, Selection


class $cls:
    """Takes the rows farthest from the mean of all rows."""

    needs = Needs(space="current")  # the embeddings of the round's own model

    def select(self, features, taken, n, rng):
        X = np.asarray(features.embedding, dtype=np.float64)
        mean = X[features.eligible].mean(axis=0)
        candidates = np.flatnonzero(~taken)
        distance = np.linalg.norm(X[candidates] - mean, axis=1)
        order = np.argsort(-distance, kind="stable")[:n]
        return Selection(candidates[order], distance[order], "distance to the mean; the highest is picked")
''',
        "conf/sampler/$name.yaml": "_target_: $name.$cls\n",
        "test_$name.py": """\
from $name import $cls

from diverseevol.testing import SamplerContract


class Test$cls(SamplerContract):
    def sampler(self):
        return $cls()
""",
    },
    "diverseevol evolve sampler=$name",
)

JUDGE = Skeleton(
    "judge",
    "Judge",
    {
        "$name.py": '''\
from diverseevol.judges import Capabilities, Judgement

VERSION = "$name-1"  # change it with the rule: judgements of different rules are not mixed


class $cls:
    """An answer that is shorter than the reference is the better one."""

    name = "$name"
    capabilities = Capabilities(compares_with="reference", prompt_version=VERSION, calls=False)

    def judge(self, sheet):
        judgements = []
        for question, answer, reference in sheet.pairs("reference"):
            score = 9.0 if len(answer) < len(reference) else 1.0
            judgements.append(Judgement(question.id, 0, score, 5.0, self.name, VERSION, "by length"))
        return judgements
''',
        "conf/judge/$name.yaml": "_target_: $name.$cls\n",
        "test_$name.py": """\
from $name import $cls

from diverseevol.benchmarks import Benchmark, Question
from diverseevol.judges import AnswerSheet


def test_the_shorter_answer_is_the_better_one():
    questions = (Question("1", "Why?", reference="Because."), Question("2", "How?", reference="So."))
    answers = {"1": "Why not?", "2": "By chance."}
    first, second = $cls().judge(AnswerSheet(Benchmark("small", questions), answers))
    assert first.model_score == second.model_score < first.competitor_score
    (third,) = $cls().judge(AnswerSheet(Benchmark("small", questions[:1]), {"1": "So."}))
    assert third.model_score > third.competitor_score
""",
    },
    "diverseevol judge folder=outputs judge=$name out=judged",
)

METRIC = Skeleton(
    "metric",
    "Metric",
    {
        "$name.py": '''\
from diverseevol.metrics import Metric


class $cls(Metric):
    """How long the instructions in the pool are."""

    name = "$name"
    title = "length of an instruction"
    unit = "words"

    def measure(self, measured):
        rows = measured.dataset.take(measured.pool)
        return sum(len(row.instruction.split()) for row in rows) / len(rows)
''',
        "conf/metric/$name.yaml": "$name:\n  _target_: $name.$cls\n",
        "test_$name.py": """\
import numpy as np
from $name import $cls

from diverseevol.data import load
from diverseevol.metrics import MeasuredRound


def test_it_is_the_mean_over_the_pool(tmp_path):
    file = tmp_path / "rows.jsonl"
    texts = ("one two", "one two three four", "not in the pool")
    file.write_text("".join(f\'{{"instruction": "{text}", "output": "x"}}\\n\' for text in texts))
    dataset = load(file, cache=tmp_path)
    rows, tokens = np.arange(3), np.ones(3, int)
    measured = MeasuredRound(0, rows[:2], dataset, eligible=rows, response_tokens=tokens, curve=[])
    assert $cls().measure(measured) == 3
""",
    },
    "diverseevol evolve metric=$name",
)

FORMAT = Skeleton(
    "data",
    "Format",
    {
        "$name.py": '''\
from diverseevol.data import exchange


class $cls:
    """Records with a question and an answer; what else they hold is kept."""

    def parse(self, record):
        extra = {field: record[field] for field in record if field not in ("question", "answer")}
        return exchange(record["question"], "", record["answer"], extra)

    def to_record(self, conversation):
        return {"question": conversation.instruction, "answer": conversation.response, **conversation.extra}
''',
        "conf/data/$name.yaml": "defaults:\n  - json\n  - _self_\nformat:\n  _target_: $name.$cls\n",
        "test_$name.py": """\
from $name import $cls


def test_a_record_is_read_and_written_as_it_came():
    record = {"question": "Why?", "answer": "So.", "source": "here"}
    conversation = $cls().parse(record)
    assert (conversation.instruction, conversation.response) == ("Why?", "So.")
    assert $cls().to_record(conversation) == record
""",
    },
    "diverseevol evolve data=$name data.path=rows.jsonl model.path=MODEL",
)

BENCHMARK = Skeleton(
    "benchmark",
    "Benchmark",
    {
        "$name.jsonl": """\
{"id": "1", "category": "facts", "instruction": "What is the capital of France?", "reference": "Paris"}
{"id": "2", "category": "facts", "instruction": "How many legs has a spider?", "reference": "eight"}
{"id": "3", "category": "lists", "instruction": "Name the first three letters.", "reference": "A, B, C"}
""",
        "conf/benchmark/$name.yaml": """\
_target_: diverseevol.benchmarks.load
name: $name
path: $name.jsonl
competitor: null           # another model's answers, JSONL: {"id": …, "answer": …}
""",
        "test_$name.py": """\
from pathlib import Path

from diverseevol.benchmarks import load


def test_every_question_has_a_reference():
    file = Path(__file__).with_name("$name.jsonl")
    (benchmark,) = load("$name", file, cache=Path())
    assert benchmark.questions
    assert all(question.reference for question in benchmark.questions)
""",
    },
    "diverseevol evolve benchmark=$name judge=gold generation.max_new_tokens=24",
)

KINDS = {"sampler": SAMPLER, "judge": JUDGE, "metric": METRIC, "format": FORMAT, "benchmark": BENCHMARK}
