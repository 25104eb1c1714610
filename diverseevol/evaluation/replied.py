"""Whether the scores that are recorded are those that the judge's reply begins with."""

import re

from diverseevol.errors import InputError
from diverseevol.evaluation.judges import Judgement
from diverseevol.evaluation.pairwise import AGAIN, parse

TWO_SCORES = re.compile(r"\s*(\d+(?:\.\d+)?)[\s,]+(\d+(?:\.\d+)?)\s*")
PAIR_PROMPT = re.compile(r".*-[0-9a-f]{8}|released")  # the versions whose replies begin with two scores


def agrees_with_its_reply(place: str, one: Judgement) -> bool:
    """Whether a judgement by a language model could be held against what the model replied; other judges say no scores.

    Raises:
        InputError: the reply holds other scores.
    """
    if not PAIR_PROMPT.fullmatch(one.prompt_version):
        return True
    last = one.reason.split(AGAIN)[-1].strip()  # of several replies the last one counts
    strict = None if one.parsed else parse(last)
    said = _said(last) if one.parsed else [] if strict is None else [strict]
    shown = (one.model_score, one.competitor_score)[:: 1 if one.order == 0 else -1]
    if said and shown not in said:
        words = " or ".join(f"'{first:g} {second:g}'" for first, second in said)
        raise InputError(
            f"{place}: records {[one.model_score, one.competitor_score]} as [model, competitor] but the reply begins "
            f"with {words} for {'model, competitor' if one.order == 0 else 'competitor, model'}; judge this model's "
            f"answers again"
        )
    return bool(said) or not one.parsed


def _said(reply: str) -> list[tuple[float, float]]:
    """The scores on a reply's first line; or, where two replies stand together unmarked, those that may be meant."""
    lines = [TWO_SCORES.fullmatch(part.split("\n", 1)[0]) for part in reply.split("\n\n")]
    found = [(float(line[1]), float(line[2])) for line in lines if line]
    return found[:1] if lines[0] else found
