"""Whether the scores that are recorded are those that the judge's reply begins with."""

import re

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.judges.grammar import Scores, as_released, parse, plain, read
from diverseevol.evaluation.judges.pairwise import AGAIN

PAIR_PROMPT = re.compile(r".*-[0-9a-f]{8}|released")  # the versions whose replies begin with two scores


def agrees_with_its_reply(place: str, one: Judgement) -> bool:
    """Whether a judgement by a language model could be held against what the model replied; other judges say no scores.

    Raises:
        InputError: the reply holds other scores.
    """
    if not PAIR_PROMPT.fullmatch(one.prompt_version):
        return True
    last = one.reason.split(AGAIN)[-1].strip()  # of several replies the last one counts
    said = _said(last, one)
    shown = (one.model_score, one.competitor_score)[:: 1 if one.order == 0 else -1]
    if said and shown not in said:
        words = " or ".join(f"'{first:g} {second:g}'" for first, second in said)
        raise InputError(
            f"{place}: records {[one.model_score, one.competitor_score]} as [model, competitor] but the reply begins "
            f"with {words} for {'model, competitor' if one.order == 0 else 'competitor, model'}; judge this model's "
            f"answers again"
        )
    return bool(said) or not one.parsed


def _said(reply: str, one: Judgement) -> list[Scores]:
    """The scores that a recorded reply holds; where it may be several replies that stand together, those of each."""
    simplest = plain(reply)
    if not one.parsed:
        # What is read today may not have been read when it was recorded, except in the plainest form.
        return [simplest] if simplest is not None and parse(reply) is not None else []
    if simplest is not None:
        return [simplest]
    reading = as_released if one.prompt_version == "released" else read
    return [scores for part in (reply, *reply.split("\n\n")) if (scores := reading(part)) is not None]
