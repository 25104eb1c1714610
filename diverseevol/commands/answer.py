"""`diverseevol answer`: let a model answer a benchmark; its answers can be judged, or be the competitor of others'."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from diverseevol.commands.evolve import quieten
from diverseevol.commands.settings import Settings
from diverseevol.errors import InputError
from diverseevol.evaluation.answers import AnswerFile, answer
from diverseevol.files import cache_folder
from diverseevol.foundation import Pretrained
from diverseevol.generation import Generation
from diverseevol.learner import Learner
from diverseevol.modules.sft import Tuning
from diverseevol.processes import Processes, join, leave
from diverseevol.progress import Progress, Shown, Silent
from diverseevol.prompt import Encoded, Prompt, PromptOptions


@dataclass(frozen=True)
class Options:
    """Where answers go, and what their sampling comes from."""

    out: str
    seed: int


def run(settings: Settings) -> None:
    """Answer what is not answered yet."""
    processes = join()
    try:
        console = Console(stderr=True, quiet=not processes.first)
        quieten(console)
        _run(settings, processes, console)
    finally:
        leave(processes)


def _run(settings: Settings, processes: Processes, console: Console) -> None:
    options, generation = settings.options("", Options), settings.options("generation", Generation)
    benchmarks = settings.part("benchmark", cache=cache_folder(settings.value("cache")))
    model = settings.part("model")
    if not isinstance(model, Pretrained):
        raise InputError("model must be a pretrained one here: give model=hf model.path=FOLDER or a hub name")
    progress: Progress = Shown(console) if processes.first else Silent()
    prompt = Prompt(model.tokenizer(), settings.options("prompt", PromptOptions))
    nothing = np.zeros(0, dtype=np.int64)
    rows = Encoded(ids=nothing, offsets=np.zeros(1, dtype=np.int64), response_start=nothing)
    learner = Learner(
        model, prompt, rows, Tuning(), trainer=settings.part("trainer"), processes=processes, progress=progress
    )
    weights = None
    for benchmark in benchmarks:
        file = AnswerFile(Path(options.out), benchmark, generation)
        if not processes.share(file.whole()):
            weights = weights or model.load().eval()
            answer(file, learner, weights, (options.seed,))
        console.print(f"{benchmark.name}: {len(benchmark.questions):,} answers in {file.path}", highlight=False)
