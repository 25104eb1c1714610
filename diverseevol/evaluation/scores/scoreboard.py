"""The scores of every model whose judgements lie below a folder."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.read_judgements import JudgementFile, read_judgements
from diverseevol.evaluation.scores.scores import Scores, paired_scores, score, unparsed_questions

PAPER_QUESTIONS = {"vicuna": 80, "koala": 180, "wizardlm": 218}


@dataclass(frozen=True, eq=False)
class ScoredRound:
    """One round's model on one benchmark.

    Attributes:
        file, source, benchmark, schedule, seed, round, initial_pool, pool_size: see `JudgementFile`.
        prompt_version: of the judge; verdicts under different prompts are not compared.
        question_ids: sorted; without those in `unparsed`.
        unparsed: questions that no figure counts, because a judgement of theirs holds no scores.
        model, competitor: per question, summed over orders, in the order of `question_ids`.
    """

    file: str
    source: str
    judge: str
    prompt_version: str
    benchmark: str
    schedule: str
    seed: int | None
    round: int
    initial_pool: tuple[int, str] | None
    scores: Scores
    question_ids: tuple[str, ...]
    model: Float[np.ndarray, " questions"]
    competitor: Float[np.ndarray, " questions"]
    unparsed: tuple[str, ...] = ()
    pool_size: int | None = None

    @property
    def value(self) -> float:
        """The number that samplers are compared by."""
        return self.scores.relative_score

    def beside(self, other: "ScoredRound") -> tuple["ScoredRound", "ScoredRound"]:
        """This model and another on the questions that both were judged on; those without a verdict drop out.

        Raises:
            InputError: they were asked different questions.
        """
        left_out = {*self.unparsed, *other.unparsed}
        differing = sorted(({*self.question_ids} ^ {*other.question_ids}) - left_out)
        if differing:
            raise InputError(
                f"{self.file} and {other.file}: not the same questions ({len(differing)} are in one only, first "
                f"{differing[0]!r}), so these models cannot be compared; judge both on one benchmark"
            )
        return self._without(left_out), other._without(left_out)

    def _without(self, questions: set[str]) -> "ScoredRound":
        keep = [i for i, question in enumerate(self.question_ids) if question not in questions]
        if len(keep) == len(self.question_ids):
            return self
        model, competitor = self.model[keep], self.competitor[keep]
        if competitor.sum() == 0:
            raise InputError(f"{self.file}: too few questions with a verdict are left to compare; judge it again")
        scores = replace(self.scores, questions=len(keep), relative_score=float(100 * model.sum() / competitor.sum()))
        ids = tuple(self.question_ids[i] for i in keep)
        return replace(self, question_ids=ids, model=model, competitor=competitor, scores=scores)


@dataclass(frozen=True)
class Scoreboard:
    """Every model's scores, sorted, and what a reader of them must know."""

    rounds: tuple[ScoredRound, ...]
    warnings: tuple[str, ...]


def score_folder(place: Path) -> Scoreboard:
    """Score every file of judgements below a folder or in an archive (see `read_judgements`).

    Raises:
        InputError: a file is faulty, two files are of one model, or there are none.
    """
    return score_files(read_judgements(place))


def score_files(files: Iterable[JudgementFile]) -> Scoreboard:
    """Score files of judgements, from one place or several.

    Raises:
        InputError: a file's judgements contradict each other, or two files are of one model.
    """
    rounds: dict[tuple[str | int, ...], ScoredRound] = {}
    remarks: Counter[str] = Counter()
    for file in files:
        scored = _scored(file)
        seed = -1 if scored.seed is None else scored.seed
        key = (
            scored.source, scored.judge, scored.prompt_version, scored.benchmark, scored.schedule, seed, scored.round
        )  # fmt: skip
        if key in rounds:
            raise InputError(f"{file.file}: is of the same model and benchmark as {rounds[key].file}; remove one")
        rounds[key] = scored
        remarks.update(file.remarks)
    ordered = _with_versions(tuple(rounds[key] for key in sorted(rounds)))
    warnings = [f"{count} {remark}" for remark, count in sorted(remarks.items())]
    return Scoreboard(ordered, (*_wrong_sizes(ordered), *_unparsed(ordered), *warnings))


def _with_versions(rounds: tuple[ScoredRound, ...]) -> tuple[ScoredRound, ...]:
    """Judges that judged by several prompts are named with the prompt, so that no table mixes their scores up."""
    versions: dict[str, set[str]] = {}
    for each in rounds:
        versions.setdefault(each.judge, set()).add(each.prompt_version)
    return tuple(
        replace(each, judge=f"{each.judge} ({each.prompt_version})") if len(versions[each.judge]) > 1 else each
        for each in rounds
    )


def _scored(file: JudgementFile) -> ScoredRound:
    # Sorted, so that the models of one benchmark are resampled alike whatever the order of their lines.
    judgements = sorted(file.judgements, key=lambda one: one.question_id)
    left_out = unparsed_questions(judgements)
    try:
        scores = score(judgements, capabilities_of(judgements[0].judge).label)
        model, competitor = paired_scores(judgements)
    except InputError as error:
        raise InputError(f"{file.file}: {error}") from error
    return ScoredRound(
        file=file.file,
        source=file.source,
        judge=scores.judge,
        prompt_version=judgements[0].prompt_version,
        benchmark=file.benchmark,
        schedule=file.schedule,
        seed=file.seed,
        round=file.round,
        initial_pool=file.initial_pool,
        scores=scores,
        question_ids=tuple(
            name for name in dict.fromkeys(one.question_id for one in judgements) if name not in left_out
        ),
        model=model.sum(axis=1),
        competitor=competitor.sum(axis=1),
        unparsed=left_out,
        pool_size=file.pool_size,
    )


def _wrong_sizes(rounds: tuple[ScoredRound, ...]) -> list[str]:
    """Files without their benchmark's number of questions: the paper's number, or else what most files have."""
    warnings = []
    for source, benchmark in sorted({(each.source, each.benchmark) for each in rounds}):
        files = [each for each in rounds if (each.source, each.benchmark) == (source, benchmark)]
        sizes = Counter(_asked(each) for each in files)
        expected = PAPER_QUESTIONS.get(benchmark) or sizes.most_common(1)[0][0]
        wrong = [each for each in files if _asked(each) != expected]
        if wrong:
            warnings.append(
                f"{len(wrong)} of {len(files)} files of {source}, {benchmark} do not have its {expected} questions and "
                f"cannot be compared with the others (first: {wrong[0].file}, {_asked(wrong[0])} questions)"
            )
    return warnings


def _asked(each: ScoredRound) -> int:
    return len(each.question_ids) + len(each.unparsed)


def _unparsed(rounds: tuple[ScoredRound, ...]) -> list[str]:
    files = [each for each in rounds if each.unparsed]
    if not files:
        return []
    judgements, questions = sum(each.scores.unparsed for each in files), sum(len(each.unparsed) for each in files)
    return [
        f"{judgements} judgements in {len(files)} of {len(rounds)} files hold no scores; their {questions} questions "
        f"are left out of the figures (first: {files[0].file}, question {files[0].unparsed[0]!r})"
    ]
