"""What a judge's replies come to, and when a judge that does not keep to the form is given up."""

from collections.abc import Sequence

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.judges.grammar import answer_of, parse
from diverseevol.evaluation.judges.pairwise import Showing, conclude
from diverseevol.evaluation.judges.reply_cache import Reply

ENOUGH = 12  # judgements that say how well a judge keeps to the form: 24 requests, if none does
ENOUGH_CUT = 4  # likewise, where every reply ended at the limit of tokens before it said anything
SHOWN = 80  # characters of a reply in a message


class GivenUpError(InputError):
    """Too many replies of a judge hold no two scores."""

    def __init__(self, message: str, verdicts: "Verdicts") -> None:
        super().__init__(message)
        self._verdicts = verdicts

    @property
    def judgements(self) -> list[Judgement]:
        """Those made so far, of requests that were under way when the judge was given up, too."""
        return self._verdicts.so_far()


def cut_short(reply: Reply) -> bool:
    """Whether a reply ended at the limit of tokens before it said anything, as thoughts that are too long do."""
    return reply.cut and not answer_of(reply.text)


def to_ask_again(reply: Reply) -> bool:
    """Whether a first reply holds no scores, and a second one may: not where the limit of tokens is in the way."""
    return not reply.unanswered and parse(reply.text) is None and not cut_short(reply)


class Verdicts:
    """The judgements of one model on one benchmark, as the replies come in.

    Args:
        showings: what is judged.
        judge: the judge's name.
        version: of the prompt.
        benchmark: its name.
        most: the greatest share of judgements whose replies may be without scores. Prompts that nobody answers say
            nothing of how well a judge keeps to the form, and do not count.
        limit: the option that limits a reply's length, with its value, for messages.
    """

    def __init__(
        self, showings: Sequence[Showing], judge: str, version: str, benchmark: str, most: float, limit: str
    ) -> None:
        self.showings = showings
        self.judge, self.version, self.benchmark = judge, version, benchmark
        self.most, self.limit = most, limit
        self._judgements: dict[Showing, Judgement] = {}
        self._lost: set[Showing] = set()
        self._unanswered: set[Showing] = set()
        self._cut: set[Showing] = set()  # of the lost ones, those whose reply ended at the limit of tokens
        self._silent: set[Showing] = set()  # of these, those that had said nothing by then

    def add(self, showing: Showing, replies: Sequence[Reply]) -> None:
        """Take in the replies to one showing, of which the last one counts.

        Raises:
            GivenUpError: it is clear by now that too many judgements will be without scores.
        """
        words = [reply.text for reply in replies]
        if cut_short(replies[-1]):
            self._silent.add(showing)
            words[-1] = words[-1] or f"(nothing within {self.limit})"
        self._judgements[showing] = conclude(showing, words, self.judge, self.version)
        if replies[0].unanswered:
            self._unanswered.add(showing)
        elif not self._judgements[showing].parsed:
            self._lost.add(showing)
            if replies[-1].cut:
                self._cut.add(showing)
        done, lost = len(self._judgements), len(self._lost)
        none = lost + len(self._unanswered) == done > self.most * done
        if none and (done >= ENOUGH or done == len(self._silent) >= ENOUGH_CUT):
            raise self._given_up()
        if done >= ENOUGH and lost > self.most * len(self.showings):
            raise self._given_up()

    def all(self) -> list[Judgement]:
        """The judgements, once all replies are there.

        Raises:
            GivenUpError: too many are without scores, or all are.
        """
        lost, count = len(self._lost), len(self.showings)
        if lost > self.most * count or lost + len(self._unanswered) == count > self.most * count:
            raise self._given_up()
        return self.so_far()

    def so_far(self) -> list[Judgement]:
        """The judgements made until now, in the order of the showings."""
        return [self._judgements[showing] for showing in self.showings if showing in self._judgements]

    def _given_up(self) -> GivenUpError:
        judgements = self.so_far()
        lost = self._lost or self._unanswered
        first = self._judgements[next(showing for showing in self.showings if showing in lost)]
        words = " ".join(first.reason.split())
        words = repr(words[:SHOWN] + ("…" if len(words) > SHOWN else "")) if words else "nothing"
        place = f"(the first: question {first.question_id!r}, order {first.order}, which said {words})"
        if not self._lost:
            what = f"none of {len(judgements):,} prompts is answered by {self.judge} {place}"
            remedy = "choose a judge that takes these prompts"
        else:
            what = (
                f"{len(self._lost):,} of {len(judgements):,} judgements by {self.judge} hold no two scores {place}, "
                f"more than judge.max_unparsed={self.most:g} allows"
            )
            remedy = "choose a judge or a judge.prompt that keeps to the form"
        if self._cut:
            other = "" if self._cut == self._silent else f", or {remedy}"
            remedy = f"{len(self._cut):,} of these replies ended at {self.limit} before any scores: raise it{other}"
        rest = len(self.showings) - len(judgements)
        unasked = f"; {rest:,} were not asked for" if rest else ""
        return GivenUpError(f"benchmark {self.benchmark}: {what}{unasked}; {remedy}", self)
