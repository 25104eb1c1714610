"""The scores of every model whose judgements lie below a folder."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.frame import Frame, Row, frame_of, judged_row
from diverseevol.evaluation.scores.read_judgements import JudgedAnswers, read_judgements
from diverseevol.evaluation.scores.scores import read_scores, score
from diverseevol.storage.links import refuse_from_outside

PAPER_QUESTIONS = {"vicuna": 80, "koala": 180, "wizardlm": 218}
KEYS = ["source", "judge", "prompt_version", "benchmark", "schedule", "seed", "round"]  # what a score is known by


@dataclass(frozen=True, eq=False)
class Scoreboard:
    """Every model's scores, a row a model and benchmark, sorted; and what a reader of them must know."""

    frame: Frame
    warnings: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The judges' own warnings."""
        judged = zip(self.frame.judge, self.frame.scores, strict=True)
        return sorted({f"{judge}: {scores.label}" for judge, scores in judged if scores.label})


def score_folder(path: Path) -> Scoreboard:
    """Score every file of judgements below a folder or in an archive (see `read_judgements`).

    Raises:
        InputError: a file is faulty, two files are of one model, or there are none.
    """
    return score_files(read_judgements(path))


def score_files(files: Iterable[JudgedAnswers]) -> Scoreboard:
    """Score files of judgements, from one path or several.

    Raises:
        InputError: a file's judgements contradict each other, or two files are of one model.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    remarks: Counter[str] = Counter()
    for file in files:
        row = _scored(file)
        key = tuple(-1 if row[name] is None else row[name] for name in KEYS)
        if key in rows:
            raise InputError(f"{file.file}: is of the same model and benchmark as {rows[key]['file']}; remove one")
        rows[key] = row
        remarks.update(file.remarks)
    frame = frame_of(rows[key] for key in sorted(rows))
    # Judges that judged by several prompts are named with the prompt, so that no table mixes their scores up.
    several = frame.groupby("judge").prompt_version.transform("nunique") > 1
    frame["judge"] = frame.judge.where(~several, frame.judge + " (" + frame.prompt_version + ")")
    ordered = list(frame.itertuples())
    warnings = [f"{count} {remark}" for remark, count in sorted(remarks.items())]
    return Scoreboard(frame, (*_wrong_sizes(ordered), *_unparsed(ordered), *warnings))


def _scored(file: JudgedAnswers) -> dict[str, Any]:
    first = min(file.judgements, key=lambda judgement: judgement.question_id)
    try:
        scores = score(file.judgements, _label(file, first.judge))
    except InputError as error:
        raise InputError(f"{file.file}: {error}") from error
    row = judged_row(file.model, file.benchmark, vars(scores))
    return {**row, "prompt_version": first.prompt_version, "file": file.file, "scores": scores}


def _label(file: JudgedAnswers, judge: str) -> str | None:
    """A judge's own warning: of the project's by its name, of another one as `scores.json` has noted it."""
    folder = Path(file.file).parents[1]
    if capabilities_of(judge).label or not (folder / "scores.json").is_file():
        return capabilities_of(judge).label
    refuse_from_outside(folder / "scores.json", folder)
    noted = read_scores(folder).get(file.benchmark, {})
    return str(noted["label"]) if noted.get("judge") == judge and noted.get("label") else None


def _wrong_sizes(rows: Sequence[Row]) -> list[str]:
    """Files without their benchmark's number of questions: the paper's number, or else what most files have."""
    warnings = []
    for source, benchmark in sorted({(row.source, row.benchmark) for row in rows}):
        files = [row for row in rows if (row.source, row.benchmark) == (source, benchmark)]
        sizes = Counter(_asked(row) for row in files)
        expected = PAPER_QUESTIONS.get(benchmark) or sizes.most_common(1)[0][0]
        wrong = [row for row in files if _asked(row) != expected]
        if wrong:
            warnings.append(
                f"{len(wrong)} of {len(files)} files of {source}, {benchmark} do not have its {expected} questions and "
                f"cannot be compared with the others (first: {wrong[0].file}, {_asked(wrong[0])} questions)"
            )
    return warnings


def _asked(row: Row) -> int:
    return len(row.scores.by_question.ids) + len(row.scores.by_question.unparsed)


def _unparsed(rows: Sequence[Row]) -> list[str]:
    files = [row for row in rows if row.scores.unparsed]
    if not files:
        return []
    judgements = sum(row.scores.unparsed for row in files)
    questions = [question for row in files for question in row.scores.by_question.unparsed]
    return [
        f"{judgements} judgements in {len(files)} of {len(rows)} files hold no scores; their {len(questions)} "
        f"questions are left out of the figures (first: {files[0].file}, question {questions[0]!r})"
    ]
