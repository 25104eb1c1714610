import json
import re
import sqlite3

import pytest
from transformers import BloomConfig, BloomForCausalLM

from diverseevol.errors import InputError
from diverseevol.evaluation.judges import local_judge
from diverseevol.evaluation.judges.base import AnswerSheet, GivenUpError
from diverseevol.evaluation.judges.local_judge import Local
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question

BENCHMARK = Benchmark("mine", tuple(Question(str(i), f"What is {i}?", competitor="y" * 6) for i in range(3)))
ANSWERS = {"0": "x", "1": "xx", "2": "xxx"}
SHEET = AnswerSheet(BENCHMARK, ANSWERS)


@pytest.fixture
def make(foundation, tmp_path):
    usual = {"path": foundation.path, "dtype": "float32", "max_tokens": 24, "batch_size": 4, "cache": str(tmp_path)}
    return lambda **changes: Local(**(usual | changes))


@pytest.fixture
def speaking(monkeypatch):
    """Lets the model say what a function makes of its prompt's text; what it was asked is kept."""
    asked: list[str] = []

    def install(say):
        def generate(model, prompts, seeds, options, stop_tokens, *rest):
            assert options.temperature == 0
            texts = [install.tokenizer.decode(ids) for ids in prompts]
            asked.extend(texts)
            replies = [install.tokenizer(say(text), add_special_tokens=False)["input_ids"] for text in texts]
            return [reply[: options.max_new_tokens] for reply in replies]

        monkeypatch.setattr(local_judge, "generate", generate)
        return asked

    return install


def lengths(text: str) -> str:
    first, second = (re.findall(rf"<answer-{i}-\w+>\n(.*?)\n</answer-{i}-", text, re.S)[0] for i in (1, 2))
    return f"{len(first)} {len(second)}\nBecause."


def test_a_random_model_says_nothing_that_can_be_read_and_its_replies_are_kept(make, monkeypatch):
    judge = make(max_unparsed=1.0)
    judgements = judge.judge(SHEET)
    assert [(j.question_id, j.order, j.parsed) for j in judgements] == [
        (str(i), order, False) for i in range(3) for order in (0, 1)
    ]
    monkeypatch.setattr(local_judge, "generate", None)  # whoever generates again fails
    assert make(max_unparsed=1.0).judge(SHEET) == judgements
    with pytest.raises(InputError, match="6 of 6 judgements"):
        make(max_unparsed=0.5).judge(SHEET)


def test_the_scores_go_to_whom_they_rate_in_both_orders(make, speaking, foundation):
    speaking.tokenizer = foundation.tokenizer()
    asked = speaking(lengths)
    judgements = make().judge(SHEET)
    assert len(asked) == 6
    assert all((j.model_score, j.competitor_score) == (int(j.question_id) + 1, 6) for j in judgements)
    assert {j.judge for j in judgements} == {foundation.path.rsplit("/", 1)[1]}


def test_only_what_cannot_be_read_is_asked_again(make, speaking, foundation):
    speaking.tokenizer = foundation.tokenizer()
    asked = speaking(lambda text: lengths(text) if "<reply-" in text or "What is 1?" not in text else "Well.")
    judgements = make().judge(SHEET)
    assert len(asked) == 6 + 2
    assert all("What is 1?" in text and "Well." in text for text in asked[6:])
    assert [j.model_score for j in judgements] == [1, 1, 2, 2, 3, 3]


THOUGHT = "<think>\n" + "At first I would say 3 4. " * 12 + "\n</think>\n\n"


def growing(reply: str):
    """What a model says whose replies are asked for in parts: the rest of what its prompt ends with."""

    def say(text: str) -> str:
        begun = max((n for n in range(len(reply) + 1) if text.endswith(reply[:n])), default=0)
        return reply[begun:]

    return say


def test_a_thought_goes_on_beyond_the_length_of_a_reply_and_nothing_else_does(make, speaking, foundation):
    speaking.tokenizer = foundation.tokenizer()
    asked = speaking(growing(THOUGHT + "9 2\nGood."))
    one = Benchmark("one", BENCHMARK.questions[:1])
    judgements = make().judge(AnswerSheet(one, ANSWERS))
    assert {(j.model_score, j.reason) for j in judgements} == {(9, "9 2\nGood."), (2, "9 2\nGood.")}
    assert 4 <= len(asked) <= 14  # each time as far again
    asked.clear()
    assert not any(j.parsed for j in make(max_thought_tokens=8, max_unparsed=1.0).judge(AnswerSheet(one, ANSWERS)))
    assert len(asked) == 4
    asked.clear()
    with pytest.raises(InputError, match=r"2 of these replies ended at .*judge\.max_thought_tokens=8 .*: raise it"):
        make(max_thought_tokens=8).judge(AnswerSheet(one, ANSWERS))
    assert asked == []  # that a reply was cut is kept with it
    speaking(growing("At first I would say 3 4. " * 40))
    asked.clear()
    make(max_unparsed=1.0, max_tokens=20).judge(AnswerSheet(one, ANSWERS))
    assert len(asked) == 4  # two first replies, and two that were asked for again


def test_a_thought_that_the_chat_template_opens_belongs_to_the_reply(make, speaking, foundation, tmp_path):
    tokenizer = foundation.tokenizer()
    opening = r"{{ '\n<think>\n' }}"
    tokenizer.chat_template = (
        f"{{% for m in messages %}}{{% if m['role'] != 'user' %}}{opening}{{% endif %}}{{{{ m['content'] }}}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{opening}{{% endif %}}"
    )
    foundation.load().save_pretrained(tmp_path / "thinking")
    tokenizer.save_pretrained(tmp_path / "thinking")
    speaking.tokenizer = tokenizer
    speaking(lambda text: "8 7\nsurely</think>\n" + lengths(text))
    judgements = make(path=str(tmp_path / "thinking")).judge(SHEET)
    assert [j.model_score for j in judgements] == [1, 1, 2, 2, 3, 3]


def test_special_tokens_that_mark_thoughts_are_kept_and_others_are_not(make, speaking, foundation, tmp_path):
    tokenizer = foundation.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "<|other|>"]})
    model = foundation.load()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "special")
    tokenizer.save_pretrained(tmp_path / "special")
    speaking.tokenizer = tokenizer
    speaking(lambda text: f"[THINK]3 4[/THINK]<|other|>{lengths(text)}<|other|>")
    judgements = make(path=str(tmp_path / "special")).judge(SHEET)
    assert [j.model_score for j in judgements] == [1, 1, 2, 2, 3, 3]
    assert judgements[0].reason == "1 6\nBecause."


def test_a_judge_that_never_keeps_to_the_form_is_given_up_early(make, speaking, foundation):
    speaking.tokenizer = foundation.tokenizer()
    asked = speaking(lambda text: "The first.")
    many = Benchmark("many", tuple(Question(str(i), f"What is {i}?", competitor="y" * 6) for i in range(40)))
    with pytest.raises(GivenUpError, match=r"12 of 12 judgements .* 68 were not asked for") as caught:
        make().judge(AnswerSheet(many, {str(i): "x" for i in range(40)}))
    assert len(asked) == 2 * 32
    assert len(caught.value.judgements()) == 12


def test_a_prompt_too_long_for_the_model_is_unparsed_and_not_cut(make, speaking, foundation):
    speaking.tokenizer = foundation.tokenizer()
    asked = speaking(lambda text: "5 5")
    judgements = make(max_unparsed=0.0).judge(AnswerSheet(BENCHMARK, {**ANSWERS, "1": "long " * 3000}))
    assert [j.question_id for j in judgements if not j.parsed] == ["1", "1"]
    assert judgements[2].reason.count("leaves no room") == 1
    assert len(asked) == 4


def test_other_weights_are_another_judge(make, speaking, foundation, tmp_path):
    speaking.tokenizer = foundation.tokenizer()
    asked = speaking(lambda text: "5 5")
    make().judge(SHEET)
    make().judge(SHEET)
    assert len(asked) == 6
    model = foundation.load()
    model.model.embed_tokens.weight.data[0] += 1
    model.save_pretrained(tmp_path / "other")
    foundation.tokenizer().save_pretrained(tmp_path / "other")
    make(path=str(tmp_path / "other")).judge(SHEET)
    assert len(asked) == 12


def test_a_model_that_is_not_there_is_one_sentence(make, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match="cannot be loaded"):
        make(path=str(tmp_path / "empty")).judge(SHEET)


def test_a_model_without_a_longest_prompt_judges(make, foundation, tmp_path):
    tokenizer = foundation.tokenizer()
    BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "bloom"
    )
    tokenizer.save_pretrained(tmp_path / "bloom")
    judge = make(path=str(tmp_path / "bloom"), attention="eager", max_unparsed=1.0)
    assert not any("leaves no room" in one.reason for one in judge.judge(SHEET))


def test_a_tokeniser_that_does_not_belong_to_the_judge_is_refused(make, foundation, tmp_path):
    small = BloomConfig(vocab_size=100, hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(small).save_pretrained(tmp_path / "judge")
    foundation.tokenizer().save_pretrained(tmp_path / "judge")
    with pytest.raises(InputError, match=r"judge\.path: the tokeniser gives the id \d+, but the model has 100 emb"):
        make(path=str(tmp_path / "judge")).judge(SHEET)


def test_what_the_model_never_said_is_not_kept(make, speaking, foundation, tmp_path):
    speaking.tokenizer = foundation.tokenizer()
    speaking(lambda text: "5 5")
    make(max_unparsed=0.5).judge(AnswerSheet(BENCHMARK, {**ANSWERS, "1": "long " * 3000}))
    with sqlite3.connect(tmp_path / "judgements.sqlite") as file:
        assert file.execute("SELECT DISTINCT text FROM replies").fetchall() == [("5 5",)]
    file.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_tokens": 0}, r"judge\.max_tokens is 0"),
        ({"max_thought_tokens": -1}, r"max_thought_tokens is -1"),
        ({"max_unparsed": float("nan")}, r"judge\.max_unparsed is nan"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_the_judges_own_names(make, options, complaint):
    with pytest.raises(InputError, match=complaint):
        make(**options)
