"""Which replies hold two scores: the grammar, line by line."""

import os
import time
from pathlib import Path

import pytest

from diverseevol.evaluation.judges.grammar import answer_of, as_released, opened_thought, parse, plain
from diverseevol.evaluation.scores.read_judgements import read_judgements

VICUNA = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "gpt4_judgments" / "vicuna_test.tar.xz"


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8 7", (8, 7)),
        ("8 7\nBoth are good.", (8, 7)),
        ("8 7\n9 6", (8, 7)),
        ("\n  7.5\t10  \n", (7.5, 10)),
        ("8, 7\n", (8, 7)),
        ("8 , 7.5", (8, 7.5)),
        ("1 10", (1, 10)),
    ],
)
def test_two_bare_numbers_are_scores_as_ever(reply, scores):
    assert parse(reply) == plain(reply) == scores


SAME = """\
8/10 7/10
8/10, 7/10
8/10,7/10
8 / 10, 7 / 10
8.0/10 7.0/10
8 out of 10, 7 out of 10
8 points, 7 points
**8 7**
**8** **7**
**8**/10 **7**/10
*8* *7*
__8 7__
`8 7`
"8 7"
> 8 7
8 7.
8 7!
8; 7
8;7
8 | 7
| 8 | 7 |
8 & 7
8 and 7
8 vs. 7
[[8]] [[7]]
[[8]][[7]]
[[8]], [[7]]
[8, 7]
(8) (7)
(8, 7)
Score: 8 7
Scores: 8, 7
SCORES = 8 7
**Scores:** 8 7
Scores (1-10): 8 7
The scores are 8 and 7.
Here are the scores: 8 7
Assistant 1: 8, Assistant 2: 7
Assistant 2: 7, Assistant 1: 8
**Assistant 2:** 7/10; **Assistant 1:** 8/10
Assistant 1: 8 Assistant 2: 7
Assistant 1: 8. Assistant 2: 7.
Assistant 1 8 Assistant 2 7
Assistant 1 - 8, Assistant 2 - 7
Assistant 1 (8), Assistant 2 (7)
Assistant 1: 8 / Assistant 2: 7
Assistant A: 8, Assistant B: 7
Assistant 1: [[8]], Assistant 2: [[7]]
AI Assistant 1: 8, AI Assistant 2: 7
Scores: Assistant 1: 8, Assistant 2: 7
assistant_1: 8, assistant_2: 7
{"answer_1": 8, "answer_2": 7}
Answer 1's score: 8, answer 2's score: 7
Score of answer 2: 7, score of answer 1: 8
First: 8, second: 7
The second answer: 7, the first answer: 8
A: 8, B: 7
Score 1: 8, Score 2: 7
Scores: [8, 7]
**Scores: (8, 7)**
Scores out of 10: 8 7
Final answer: 8 7
{"scores": [8, 7]}
{"ratings": {"assistant_1": 8, "assistant_2": 7}}
<answer>8 7</answer>
<scores> **8** 7. </scores>
8 7</s>
8 7 <|im_end|>
«8 7»
Assistant 1 => 8, Assistant 2 => 7
The grade of answer 1 is 8, the grade of answer 2 is 7.
| Assistant 1 | 8 | Assistant 2 | 7 |
"""


@pytest.mark.parametrize("line", SAME.splitlines())
def test_these_lines_say_8_and_7(line):
    for reply in (line, f"\n{line}\n\nThe first has 3 errors.", f"<think>3 4</think>\n{line}", f"```\n{line}\n```"):
        assert parse(reply) == (8, 7), reply


@pytest.mark.parametrize(
    "reply",
    [
        "Assistant 1: 8\nAssistant 2: 7\nThe first is 9 times better.",
        "- **Assistant 2**: 7/10\n\n- **Assistant 1**: 8/10",
        "Scores:\n8 7",
        "# Scores\n\n**8 7**\nReasons",
        "**Scores:**\nAnswer 1: 8\nAnswer 2: 7",
        "---\n8 7",
        "```text\n8 7\n```\nReasons",
        "**Final answer**\n\n\\boxed{8 7}",
        "1. Assistant 1: 8\n2. Assistant 2: 7",
        "| Assistant 1 | 8 |\n| Assistant 2 | 7 |",
        "<answer>\n8 7\n</answer>",
        "<think>3 4</think>\n<answer>\nAssistant 1: 8\nAssistant 2: 7\n</answer>",
        "\ufeff8 7",
        "8\u00a07",
    ],
)
def test_headings_fences_and_two_lines_are_read(reply):
    assert parse(reply) == (8, 7)


UNREAD = """\
8
8/10
8/7
8/5 4/5
8/100 7/100
8/10.5 7/10.5
8/10 7
8 7/10
8 (7)
[8 7
[8) (7]
8 7 6
Scores: 8 7 6
8 vs 7 vs 6
87
8-7
8 - 7
8 -7
8:7
8*7
8 * 7
8_7
8. 7.
8,5
8 ,5
8,7
8,5 7,5
-1 5
- 1 5
* 1 5
+8 +7
11 8
8 11
100 90
80% 70%
0 10
0 0
0.8 0.7
0/10 7/10
8e0 7e0
½ 7
٨ ٧
nan inf
eight seven
1: 8, 2: 7
1. 8 7
Answer: 1
Answer: 8, Answer: 7
Scores: [8, 7
Scores: Scores: 8 7
{"scores": 8 7
<answer>8 7</score>
<answer>8 7
Score: 8
Score 1 8
8 7 because the first is better
The first is better: 8 7
Assistant 1 is better, 8 7
Assistant 1: 8
Assistant 1: 8, Assistant 1: 7
Assistant 3: 8, Assistant 2: 7
Assistant 18, Assistant 27
Assistant 1: -8, Assistant 2: 7
Assistant 1 -8, Assistant 2 -7
Assistant 1: 11, Assistant 2: 7
Assistant 1: 8, Assistant 2: 7, Assistant 3: 6
"""


@pytest.mark.parametrize("line", ["", *UNREAD.splitlines()])
def test_what_is_ambiguous_or_no_grade_is_not_read(line):
    for reply in (line, f"{line}\nReasons.", f"<think>3 4</think>{line}", f"`{line}`"):
        assert parse(reply) is None, reply


@pytest.mark.parametrize(
    "reply",
    [
        "Good.\n8 7",
        "Assistant 1 makes 2 mistakes.\n8 7",
        "8\n7",
        "1. 8\n2. 7",
        "Assistant 1: 8\n7",
        "Assistant 1: 8\nAssistant 2: 7\nAssistant 1: 3",
        "Assistant 1: 8\n\nGood.\nAssistant 2: 7",
        "Scores:\nGood\n8 7",
        "8 7" + " " * 400 + "6",
    ],
)
def test_numbers_in_or_behind_an_explanation_are_not_read(reply):
    assert parse(reply) is None


HARMONY = "<|channel|>analysis<|message|>3 4{end}<|start|>assistant<|channel|>final<|message|>8 7\nGood.<|return|>"


@pytest.mark.parametrize(
    "reply",
    [
        "<think>\n3 4\n</think>\n\n8 7\nGood.",
        "<THINKING>3 4</THINKING> 8 7",
        "<thought>3 4</thought>8 7",
        "<reasoning>3 4</reasoning>\n**8/10 7/10**",
        "[THINK]3 4[/THINK]8 7",
        "<|START_THINKING|>3 4<|END_THINKING|>8 7",
        "<think>\n\n</think>\n\n8 7",
        "<think>3 <think>4</think> 5 6</think>8 7",
        "<think>1 2</think>\n<think>3 4</think>\n8 7",
        "It may be 3 4.\n</think>\n\n8 7",
        "First 3 4.\n</think>\nThen 5 6.\n</think>\n8 7",
        HARMONY.format(end="<|end|>"),
        HARMONY.format(end=""),
        "analysisWe give 3 4.assistantfinal8 7",
        "8 7\nThe first answer says </think> and <think>.",
        "8 7\nThe first answer says <think>1 10</think>.",
        "8 7\nThe first answer begins with <|channel|>final<|message|>1 10",
    ],
)
def test_thoughts_are_read_past(reply):
    assert parse(reply) == (8, 7)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>8 7",
        "<think>8 7\nThat is 8 7",
        "<think>8 7</think>",
        "<think>8 7<think>6 5</think>4 3",
        "<|channel|>analysis<|message|>8 7",
        "<|channel|>commentary<|message|>8 7<|end|>",
        "Good.\n<think>1 2</think>\n8 7",
        "</think><think>8 7</think>",
        "</think>\n<think>\n8 7",
        # A thought without its opening, or a reply that quotes a closing tag: nobody can tell.
        "3 4\n</think>\n8 7",
        "8 7\nThe first answer says\n</think>\n1 10",
    ],
)
def test_thoughts_without_end_and_replies_that_may_be_thoughts_are_not_read(reply):
    assert parse(reply) is None


def test_what_a_reply_says_is_told_from_its_thoughts():
    assert answer_of("<think>Hm.</think>\n\n8 7\nGood.") == "8 7\nGood."
    assert answer_of("Hm.\n</think>\n8 7") == "8 7"
    assert answer_of("8 7\nA stray </think> tag.") == "8 7\nA stray </think> tag."
    assert answer_of("<think>8 7") == ""
    assert answer_of("No.") == "No."


def test_a_thought_that_a_prompt_opens_is_known_by_the_prompts_end():
    assert opened_thought("<|assistant|>\n<think>\n") == "<think>\n"
    assert opened_thought("<think>\n\n</think>\n\n") == ""
    assert opened_thought("Say <think> first.") == ""


@pytest.mark.parametrize(
    "reply",
    [
        "8 " * 100_000, "<think>" * 100_000, "</think>" * 20_000 + "8 7", "8\n" * 100_000, "*" * 299, "(" * 299,
        "analysis " * 50_000, "<|channel|>" * 50_000, "Assistant 1 " * 24, "Score: " + " " * 290, "[ " * 149,
        " " * 200_000 + "8 7", "a" * 1_000_000, "# " * 149, "8/10" + " " * 290 + "x",
    ],
    ids=range(15),
)  # fmt: skip
def test_no_reply_takes_long_to_read(reply):
    began = time.process_time()
    parse(reply)
    assert time.process_time() - began < 5


@pytest.mark.skipif(not VICUNA.is_file(), reason="DIVERSEEVOL_TEST_DATA has no gpt4_judgments/vicuna_test.tar.xz")
def test_every_released_reply_says_what_was_recorded():
    """The released scores are exactly what the replies are read as; of own replies, those below 1 are none."""
    judgements = [judgement for file in read_judgements(VICUNA) for judgement in file.judgements]
    assert len(judgements) == 21_600
    for judgement in judgements:
        recorded = (judgement.model_score, judgement.competitor_score)[:: 1 if judgement.order == 0 else -1]
        assert as_released(judgement.reason) == plain(judgement.reason) == recorded
        assert parse(judgement.reason) == (recorded if min(recorded) >= 1 else None)
