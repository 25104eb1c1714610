"""The judges that need no language model: gold, overlap and none."""

from collections.abc import Sequence

from sacrebleu.metrics import CHRF

from diverseevol.evaluation.judges.base import FLOOR, TOP, AnswerSheet, Capabilities, Judge, Judgement


class NoJudge:
    """Judges nothing: the answers stay on disk, to be judged later."""

    name = "none"
    capabilities = Capabilities(judges=False, calls=False)

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """No judgements."""
        return []


class Gold:
    """Compares with the reference: 10 where equal, else from 1 to 9 by the words in common.

    Case, white space and full stops at the end do not matter. An unequal answer gets 20·L/(a + r), rounded
    and cut to 1 … 9, with a and r words in the answer and the reference and L in their longest common
    subsequence: ten times the F-measure of those words. The reference itself has the competitor's part, so a
    relative score of 100 is perfect and 10 is the floor.
    """

    name = "gold"
    capabilities = Capabilities("reference", "words-lcs-1", gold=True, calls=False)

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """Judge every answer against the question's reference, in one order."""
        version = self.capabilities.prompt_version
        judgements = []
        for question, answer, reference in sheet.pairs("reference"):
            score, reason = _partial_credit(answer, reference)
            judgements.append(Judgement(question.id, 0, score, TOP, self.name, version, reason))
        return judgements


def _partial_credit(answer: str, reference: str) -> tuple[float, str]:
    words, right = _words(answer), _words(reference)
    if not answer.strip():
        return FLOOR, "no answer"
    if words == right:
        return TOP, "equal to the reference"
    common = _longest_common_subsequence(words, right)
    score = min(max(round(20 * common / (len(words) + len(right))), FLOOR), TOP - 1)
    return float(score), f"{common} words in common of {len(words)} said and {len(right)} expected"


def _words(text: str) -> list[str]:
    return text.casefold().rstrip(" \t\r\n.").split()


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length, by the usual table, of which a row at a time is enough."""
    row = [0] * (len(b) + 1)
    for word in a:
        above = row
        row = [0]
        for j, candidate in enumerate(b):
            row.append(above[j] + 1 if word == candidate else max(above[j + 1], row[j]))
    return row[-1]


class Overlap:
    """Character overlap with the competitor's answer: needs no model and no key, and judges no quality.

    The score is 1 + 9 · chrF / 100 with the sentence chrF2 of sacrebleu (Popović 2015): 1 for nothing in
    common, 10 for the competitor's own words. A better answer in other words scores low, so this is for
    trying the pipeline out.
    """

    name = "overlap"
    capabilities = Capabilities("competitor", "chrf2-1", label="smoke measure, not a judgement of quality", calls=False)

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """Judge every answer against the competitor's, in one order."""
        chrf, version = CHRF(), self.capabilities.prompt_version
        judgements = []
        for question, answer, competitor in sheet.pairs("competitor"):
            overlap = chrf.sentence_score(answer, [competitor]).score if answer.strip() else 0.0
            score = FLOOR + (TOP - FLOOR) * overlap / 100
            judgements.append(Judgement(question.id, 0, score, TOP, self.name, version, f"chrF {overlap:.1f}"))
        return judgements


def capabilities_of(name: str) -> Capabilities:
    """What is known of a judge whose judgements were read from disk: a language model, if it is none of these."""
    judges: tuple[Judge, ...] = (Gold(), Overlap())
    return next((judge.capabilities for judge in judges if judge.name == name), Capabilities())
