"""Chat templates as somebody may have written them to do harm, or by mistake: a sentence within seconds."""

import copy
import os
import time
from pathlib import Path

import pytest

from diverseevol.data.conversation import exchange
from diverseevol.data.prompt import Prompt
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions
from diverseevol.parallel import confined as confined_module
from diverseevol.parallel.confined import confined

CHAT = PromptOptions(template="chat")
PLAIN = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
DOUBLED = "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "one list looped over often": "{% set r = range(9999) %}{% for a in r %}{% for b in r %}{% for c in r %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "a number that nobody can work out": "{{ 10 ** (10 ** 9) }}",
}
BROKEN = {
    "a range beyond the sandbox": "{% for i in range(10**9) %}x{% endfor %}",
    "a text of gigabytes": "{{ 'a' * 10**10 }}",
    "a text of gigabytes by a filter": "{{ 'a' | center(10**10) }}",
    "a text of gigabytes by formatting": "{{ '%0999999999d' | format(1) }}",
    "a text that doubles": DOUBLED,
    "much text": "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "a macro that calls itself": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "a syntax error": "{% for m in messages %}",
    "an unknown filter": "{{ messages | no_such_filter }}",
    "a name that is not there": "{{ nothing.at.all }}",
    "a division by zero": "{{ 1 / 0 }}",
    "a refusal": "{{ raise_exception('only\nsystems, please') }}",
    "a look inside Python": "{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an unpaired surrogate": "{{ '\\ud800' }}" + PLAIN,
}


def prompt_of(prompt: Prompt, template: str) -> Prompt:
    tokenizer = copy.deepcopy(prompt.tokenizer)
    tokenizer.chat_template = template
    return Prompt(tokenizer, CHAT)


@pytest.mark.parametrize("case", BROKEN)
def test_a_template_that_cannot_be_used_is_refused_before_any_row(case, prompt):
    began = time.monotonic()
    with pytest.raises(InputError, match="the tokeniser's chat template") as caught:
        prompt_of(prompt, BROKEN[case]).rows([exchange("Name a fish.", "", "Cod.")])
    assert "use prompt.template=alpaca" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("case", ENDLESS)
def test_a_template_that_does_not_end_is_ended(case, prompt, monkeypatch):
    monkeypatch.setattr(confined_module, "CPU_SECONDS", 1)
    with pytest.raises(InputError, match=r"takes too long|cannot be used"):
        prompt_of(prompt, ENDLESS[case] + PLAIN)


def test_a_template_that_waits_for_a_row_to_do_harm_is_ended_at_that_row(prompt, monkeypatch):
    harmful = prompt_of(
        prompt, PLAIN + "{% if 'now' in messages[0].content %}" + ENDLESS["nested loops"] + "{% endif %}"
    )
    assert harmful.rows([exchange("Not yet.", "", "Cod.")])
    monkeypatch.setattr(confined_module, "CPU_SECONDS", 1)
    with pytest.raises(InputError, match="takes too long"):
        harmful.rows([exchange("Do it now.", "", "Cod.")])


def test_a_child_that_is_stuck_is_ended(prompt, monkeypatch):
    monkeypatch.setattr(confined_module, "WALL_SECONDS", 0.5)
    with pytest.raises(InputError, match="takes too long"):
        confined(lambda: time.sleep(60), "it", "stop it")


def test_no_child_is_left_behind(prompt):
    before = set(_children())
    prompt_of(prompt, PLAIN)
    with pytest.raises(InputError):
        prompt_of(prompt, BROKEN["a syntax error"])
    assert set(_children()) <= before


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_texts_come_back_as_they_were_made():
    content = "é\u2028\x00\U0001f600 " * 1000
    assert confined(lambda: [content], "it", "stop it") == [content]


def test_what_the_work_refuses_is_refused_in_its_own_words():
    def work() -> None:
        raise InputError("no; try another")

    with pytest.raises(InputError, match=r"^no; try another$"):
        confined(work, "it", "stop it")


def test_work_that_is_killed_is_refused():
    with pytest.raises(InputError, match=r"^it fails"):
        confined(lambda: os.kill(os.getpid(), 9), "it", "stop it")
