"""Which pools hold questions that their models were asked, as far as the run folders list them."""

from collections.abc import Iterator, Sequence

from diverseevol.data.contamination import HELD_OUT
from diverseevol.report.collect import Run
from diverseevol.runs.saved_config import REWRITE
from diverseevol.storage.files import read_jsonl

CONTAMINATION = "contamination.jsonl"


def contaminated(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each benchmark of which the last pool of some run holds questions."""
    questions: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        file = run.folder / CONTAMINATION
        pool = set(run.rounds[-1].trained_on) if run.rounds else set()
        for line in read_jsonl(file, REWRITE) if pool and file.exists() else ():
            row, benchmark, question = (line.get(key) for key in ("row", "benchmark", "question"))
            if row in pool and isinstance(benchmark, str) and isinstance(question, str):
                questions.setdefault(benchmark, {}).setdefault(run.name, set()).add(question)
    for benchmark, by_run in sorted(questions.items()):
        most = max(by_run, key=lambda name: len(by_run[name]))
        count = len(by_run[most])
        of = "held-out rows" if benchmark == HELD_OUT else f"benchmark {benchmark}"
        yield (
            f"contamination: the final pools of {len(by_run)} of {len(runs)} runs hold questions of {of}, "
            f"at most {count:,} ({most}); {CONTAMINATION} in the run folders lists them"
        )
