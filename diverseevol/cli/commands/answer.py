"""`diverseevol answer`: let a model answer a benchmark; its answers can be judged, or be the competitor of others'."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diverseevol.cli.checked_options import AnswerOptions
from diverseevol.cli.commands.evolve import quieten
from diverseevol.cli.configuration import Configuration
from diverseevol.data.prompt import Prompt
from diverseevol.engine.answering.answerer import Answerer
from diverseevol.engine.launch import join
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.trainers import validated
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import keep_questions
from diverseevol.evaluation.questions.answer_file import AnswerFile, answer
from diverseevol.options import Generation, PromptOptions
from diverseevol.output.console import Console
from diverseevol.parallel.processes import Processes, leave
from diverseevol.progress import Progress, Shown, Silent
from diverseevol.storage.cache import cache_folder, checked_in_full
from diverseevol.storage.files import read_json, refuse_links, write_json


def run(settings: Configuration) -> None:
    """Answer what is not answered yet."""
    processes = join()
    try:
        console = Console(stderr=True, quiet=not processes.first)
        quieten(console)
        _run(settings, processes, console)
    finally:
        leave(processes)


def _run(settings: Configuration, processes: Processes, console: Console) -> None:
    options, generation = settings.options("", AnswerOptions), settings.options("generation", Generation)
    trainer = validated(settings.part("trainer"), processes)
    benchmarks = settings.part("benchmark", cache=cache_folder(settings.value("cache", str | None)))
    model = settings.part("model")
    if not isinstance(model, Pretrained):
        raise InputError("model must be a pretrained one here: give model=hf model.path=FOLDER or a hub name")
    progress: Progress = Shown(console) if processes.first else Silent()
    prompt = Prompt(model.tokenizer(), settings.options("prompt", PromptOptions))
    answerer = Answerer(prompt=prompt, trainer=trainer, processes=processes, progress=progress)
    if processes.first:
        with checked_in_full(options.verify_cache):
            identity = _identity(settings, model, prompt, generation, options.seed)
        claim(Path(options.out), identity)
        keep_questions(Path(options.out), benchmarks)
    weights = None
    for benchmark in benchmarks:
        file = AnswerFile(Path(options.out), benchmark, generation)
        if not processes.share(file.whole()):
            weights = weights or model.load().eval()
            answer(file, answerer, weights, (options.seed,))
        console.print(f"{benchmark.name}: {len(benchmark.questions):,} answers in {file.path}")


def _identity(
    settings: Configuration, model: Pretrained, prompt: Prompt, generation: Generation, seed: int
) -> dict[str, Any]:
    """All that answers depend on but for the questions, which stand beside them."""
    return {
        "model": model.identity(cache_folder(settings.value("cache", str | None))),
        "prompt": prompt.identity,
        "seed": seed,
        "generation": {"max_new_tokens": generation.max_new_tokens, "temperature": generation.temperature},
    }


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Let a folder hold the answers of one model, put and drawn in one way, and of no other.

    Args:
        folder: gets `answers/`, and `fingerprint.json` beside it.
        identity: of the answers.

    Raises:
        InputError: the folder holds answers of another model, prompt, seed or generation, or nobody knows of which.
    """
    refuse_links(folder)
    file = folder / "fingerprint.json"
    if not file.exists():
        if any((folder / "answers").glob("*.*")):
            raise InputError(
                f"{file}: missing, so nobody knows which model gave the answers beside it; restore it, or give out=… "
                f"another folder"
            )
        write_json(file, identity)
        return
    there = read_json(file)
    known = there if isinstance(there, dict) else {}
    differing = [key for key in sorted({*known, *identity}) if known.get(key) != identity.get(key)]
    if differing or not known:
        raise InputError(
            f"{folder}: holds answers that differ in {', '.join(differing)} from those asked for; give out=… another "
            f"folder, or the old settings to go on with these"
        )
