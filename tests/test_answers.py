import json
from dataclasses import replace

import pytest

from diverseevol.engine.learner import Learner
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import save_questions
from diverseevol.evaluation.questions.answer_file import AnswerFile, answer
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question, load_benchmark, read_answers
from diverseevol.options import Generation
from diverseevol.runs.round_folder import REDO
from diverseevol.storage.files import read_jsonl, sweep_temporary

OPTIONS = Generation(max_new_tokens=5, temperature=0.7, batch_size=2)
QUESTIONS = Benchmark("five", tuple(Question(f"q{i}", f"Name {i} words about the cat.") for i in range(5)))


class CutError(Exception):
    """The process ends here."""


@pytest.fixture
def counted(monkeypatch):
    """`asked, limit = counted`: the questions put to the learner, and in `limit[0]` how many before it is cut off."""
    asked, limit, original = [], [99], Learner.answer

    def count(self, model, questions, *rest, **options):
        if len(asked) >= limit[0]:
            raise CutError
        asked.extend(question for question, _ in questions)
        return original(self, model, questions, *rest, **options)

    monkeypatch.setattr(Learner, "answer", count)
    return asked, limit


@pytest.fixture(scope="module")
def model(foundation):
    return foundation.load().eval()


def lines(file: AnswerFile) -> list[str]:
    return [json.loads(line)["answer"] for line in file.path.read_text().splitlines()]


def test_an_interrupted_file_goes_on_at_the_first_missing_question(tmp_path, learner, model, counted):
    asked, limit = counted
    whole, cut = (AnswerFile(tmp_path / name, QUESTIONS, OPTIONS) for name in ("whole", "cut"))
    answer(whole, learner, model, (1, 2))
    asked.clear()
    limit[0] = 4
    with pytest.raises(CutError):
        answer(cut, learner, model, (1, 2))
    assert not cut.complete()
    assert not cut.path.exists()
    sweep_temporary(tmp_path)  # as a run folder does when it is opened again
    assert len(cut.begun()) == 4
    asked.clear()
    answer(cut, learner, model, (1, 2))
    assert asked == [QUESTIONS.questions[4].instruction]
    assert cut.complete()
    assert not cut.unfinished.exists()
    assert cut.path.read_bytes() == whole.path.read_bytes()
    assert len(set(lines(whole))) > 1


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_line_that_was_cut_off_is_answered_again(tmp_path, learner, model, counted, kept):
    file = AnswerFile(tmp_path, QUESTIONS, OPTIONS)
    answer(file, learner, model, (1, 2))
    content = file.path.read_bytes()
    every = content.splitlines(keepends=True)
    file.path.unlink()
    file.unfinished.write_bytes(b"".join(every[:kept]) + every[kept][:-7])
    counted[0].clear()
    answer(file, learner, model, (1, 2))
    assert counted[0] == [question.instruction for question in QUESTIONS.questions[kept:]]
    assert file.path.read_bytes() == content


def test_a_run_that_was_cut_before_the_last_step_answers_nothing_again(tmp_path, learner, model, counted):
    file = AnswerFile(tmp_path, QUESTIONS, OPTIONS)
    answer(file, learner, model, (1, 2))
    file.path.rename(file.unfinished)
    counted[0].clear()
    answer(file, learner, model, (1, 2))
    assert counted[0] == []
    assert file.complete()


@pytest.mark.parametrize(
    ("benchmark", "options", "complaint"),
    [
        (Benchmark("five", (replace(QUESTIONS.questions[0], instruction="Who?"),)), OPTIONS, "answers other questions"),
        (Benchmark("five", QUESTIONS.questions[:3]), OPTIONS, "answers other questions"),
        (QUESTIONS, replace(OPTIONS, temperature=0.0), "with other generation settings"),
    ],
)
def test_answers_to_something_else_are_refused_whole_or_not(tmp_path, learner, model, benchmark, options, complaint):
    file = AnswerFile(tmp_path, QUESTIONS, OPTIONS)
    answer(file, learner, model, (1, 2))
    other = AnswerFile(tmp_path, benchmark, options)
    with pytest.raises(InputError, match=complaint):
        other.complete()
    file.path.rename(file.unfinished)
    with pytest.raises(InputError, match=complaint):
        other.begun()


def test_a_file_without_the_last_questions_is_not_whole(tmp_path, learner, model):
    file = AnswerFile(tmp_path, QUESTIONS, OPTIONS)
    answer(file, learner, model, (1, 2))
    file.path.write_text("".join(file.path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="fewer questions"):
        file.complete()


def test_what_to_do_about_cut_answers_is_what_helps(tmp_path, learner, model):
    file = AnswerFile(tmp_path, QUESTIONS, OPTIONS)
    answer(file, learner, model, (1, 2))
    file.path.write_text(file.path.read_text()[:-20])
    with pytest.raises(InputError, match=r"line \d: not valid JSON .*; restore it, or delete the file to answer"):
        file.complete()
    (tmp_path / "round.json").touch()  # a complete round is not asked again
    with pytest.raises(InputError, match=rf"not valid JSON .*; {REDO}$"):
        AnswerFile(tmp_path, QUESTIONS, OPTIONS).complete()


def test_the_batch_changes_no_answer(tmp_path, learner, model):
    found = set()
    for size in (1, 2, 5):
        file = AnswerFile(tmp_path / str(size), QUESTIONS, replace(OPTIONS, batch_size=size))
        answer(file, learner, model, (3,))
        found.add(file.path.read_bytes())
    assert len(found) == 1


def test_another_runs_round_is_a_competitor(tmp_path, learner, model):
    file = AnswerFile(tmp_path / "rounds" / "03", QUESTIONS, OPTIONS)
    answer(file, learner, model, (1, 2))
    asked = tmp_path / "five.jsonl"
    asked.write_text(
        "".join(json.dumps({"id": q.id, "instruction": q.instruction}) + "\n" for q in QUESTIONS.questions)
    )
    for place in (file.path, tmp_path / "rounds" / "03"):
        (benchmark,) = load_benchmark("five", asked, place, cache=tmp_path)
        assert [q.competitor for q in benchmark.questions] == lines(file)


def test_an_empty_answer_is_an_answer_of_a_run_and_a_fault_of_a_file_by_hand(tmp_path):
    benchmark = Benchmark("one", (Question("a", "Why?"),))
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "instruction": "Why?", "answer": "", "generation": {}}\n')
    assert read_answers(path, benchmark) == {"a": ""}
    path.write_text('{"id": "a", "instruction": "Why?", "answer": ""}\n')
    with pytest.raises(InputError, match="field 'answer': blank"):
        read_answers(path, benchmark)


def test_what_answers_are_held_against_is_kept_once(tmp_path):
    def asked(competitor: str | None) -> list[Benchmark]:
        return [Benchmark("b", (Question("1", "What?", competitor=competitor),))]

    save_questions(tmp_path, asked(None))
    assert [line["id"] for line in read_jsonl(tmp_path / "questions" / "b.jsonl")] == ["1"]
    for said in ("this", "that"):  # what was there first is what the answers there were held against
        save_questions(tmp_path, asked(said))
        (line,) = read_jsonl(tmp_path / "questions" / "b.jsonl")
        assert (line["id"], line["competitor"], line["reference"]) == ("1", "this", None)
