"""`diverseevol answer`: let a model answer a benchmark; its answers can be judged, or be the competitor of others'."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diverseevol.cli.checked_options import AnswerOptions, answers_of
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.workbench import workbench
from diverseevol.engine.model_limits import positions_of
from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.server import serving
from diverseevol.evaluation.exam import save_questions
from diverseevol.evaluation.questions.answer_file import AnswerFile, answer
from diverseevol.evaluation.questions.served import answer_by_server
from diverseevol.options import Generation
from diverseevol.storage.files import read_json, refuse_links, write_json


def run(settings: Configuration) -> None:
    """Answer what is not answered yet."""
    options, generation = settings.options("", AnswerOptions), settings.options("generation", Generation)
    folder, server = Path(options.out), answers_of(settings)
    with workbench(settings, options.verify_cache) as bench:
        benchmarks = settings.part("benchmark", cache=bench.cache)
        model = settings.part("model")
        if not isinstance(model, Pretrained):
            raise InputError("model must be a pretrained one here: give model=hf model.path=FOLDER or a hub name")
        answerer = bench.answerer(model)
        if bench.processes.first:
            claim(folder, {
                "model": model.identity(bench.cache), "prompt": answerer.prompt.identity, "seed": options.seed,
                "generation": {"max_new_tokens": generation.max_new_tokens, "temperature": generation.temperature},
            })  # fmt: skip
            save_questions(folder, benchmarks)
        files = [AnswerFile(folder, benchmark, generation) for benchmark in benchmarks]
        missing = [file for file in files if not bench.processes.share(file.complete())]
        if missing and server is not None:
            if bench.processes.first:
                known = positions_of(model.configuration())
                with serving(server, Path(model.path), model.path, folder / "server.log", known) as running:
                    for file in missing:
                        answer_by_server(file, running, answerer.prompt, (options.seed,), bench.progress)
            bench.processes.barrier()
        elif missing:
            weights = model.load().eval()
            for file in missing:
                answer(file, answerer, weights, (options.seed,))
        for file, benchmark in zip(files, benchmarks, strict=True):
            bench.console.print(f"{benchmark.name}: {len(benchmark.questions):,} answers in {file.path}")


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Let a folder hold the answers of one model, asked and sampled in one way, and of no other.

    Args:
        folder: gets `answers/`, and `fingerprint.json` beside it.
        identity: all that the answers depend on but for the questions, which are kept beside them.

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
    content = read_json(file)
    known = content if isinstance(content, dict) else {}
    differing = [key for key in sorted({*known, *identity}) if known.get(key) != identity.get(key)]
    if differing or not known:
        raise InputError(
            f"{folder}: holds answers that differ in {', '.join(differing)} from those asked for; give out=… another "
            f"folder, or the old settings to go on with these"
        )
