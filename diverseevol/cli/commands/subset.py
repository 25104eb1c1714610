"""The one-command subset: rows chosen by what the foundation model says of them, and written as a data set."""

import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from diverseevol.cli.checked_options import SelectOptions, has_model
from diverseevol.cli.commands.evolve import quieten, tokenise
from diverseevol.cli.commands.select import chosen, described, fall
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.fingerprint import space_identity, space_key
from diverseevol.cli.left_out_rows import left_out
from diverseevol.cli.rows import load_dataset
from diverseevol.cli.taken import taken_rows
from diverseevol.data.dataset import Dataset
from diverseevol.data.prompt import Prompt
from diverseevol.engine.launch import join
from diverseevol.engine.probing.prober import Prober
from diverseevol.engine.trainers import validated
from diverseevol.errors import InputError
from diverseevol.evolution.receipts import receipt
from diverseevol.options import Embedding, PromptOptions
from diverseevol.output.console import Console
from diverseevol.parallel.processes import Processes, leave
from diverseevol.progress import Progress, Shown, Silent
from diverseevol.samplers.base import Needs, Sampler
from diverseevol.samplers.features import Features, columns_of
from diverseevol.storage.cache import cache_folder, checked_in_full
from diverseevol.storage.files import temporary, write_json, write_jsonl


def select_subset(settings: Configuration, options: SelectOptions, sampler: Sampler, out: Path) -> None:
    """Embed the rows with the foundation model, choose, and write the choice and the rows themselves.

    A sampler that asks nothing of a model chooses without one, if none is given.

    Raises:
        InputError: no model's path is given and the sampler needs it, or data, model or sampler do not fit.
    """
    with_model = has_model(settings, sampler.needs)  # if its path is missing, that is said before the rows are read
    if options.lengths is not None:
        raise InputError("lengths and data are given, but data have lengths of their own; leave lengths out")
    processes = join()
    try:
        console = Console(stderr=True, quiet=not processes.first)
        quieten(console)
        with checked_in_full(options.verify_cache):
            dataset, features, taken = _looked_at(settings, options, sampler.needs, processes, console, out, with_model)
        if processes.first:
            choice = chosen(sampler, features, taken, options)
            lines = list(receipt(choice.selection, dataset, features.embedding, choice.pool, "foundation"))
            rows = out.with_suffix(".jsonl")
            write_jsonl(rows, map(dataset.record, choice.selection.rows.tolist()))
            report = described(settings, choice, features)
            write_json(out, {**report, "receipt": lines})
            if dataset.bad_rows:
                console.print(f"{dataset.bad_rows:,} bad records were left out ({out.with_suffix('.bad_rows.jsonl')})")
            console.print(
                f"{dataset.name}: {options.n:,} of {len(dataset):,} rows by {settings.choices['sampler']} in "
                f"{choice.seconds:.1f} s"
            )
            for line in fall(report["distance"]):
                console.print(line)
            console.print(f"writes {out} and {rows}")
        processes.barrier()
    finally:
        leave(processes)


def _looked_at(
    settings: Configuration,
    options: SelectOptions,
    needs: Needs,
    processes: Processes,
    console: Console,
    out: Path,
    with_model: bool,
) -> tuple[Dataset, Features, Bool[np.ndarray, " rows"]]:
    """The rows, what the foundation model says of them as far as the sampler asks, and which may not be chosen."""
    progress: Progress = Shown(console) if processes.first else Silent()
    cache = cache_folder(options.cache)
    embedding, prompt_options = settings.options("embedding", Embedding), settings.options("prompt", PromptOptions)
    trainer, bad_rows = validated(settings.part("trainer"), processes), out.with_suffix(".bad_rows.jsonl")
    dataset = processes.in_turn(lambda: load_dataset(settings, cache, bad_rows, progress))
    if not with_model:
        for sentence in left_out(dataset, None, prompt_options):
            console.print(sentence)
        # Every row has a response; how much of it fits into so many tokens only a tokeniser could say.
        tokens = np.ones(len(dataset), dtype=np.int64)
        tokens[dataset.held_out] = 0
        taken = taken_rows(options.taken, tokens, options.n)
        return dataset, Features(tokens, None, {}, columns_of(dataset.iterate(), needs.columns)), taken
    foundation = processes.in_turn(lambda: settings.part("model").prepare(dataset, cache))
    prompt = Prompt(foundation.tokenizer(), prompt_options)
    encoded = processes.in_turn(lambda: tokenise(dataset, prompt, cache, progress))
    for sentence in left_out(dataset, encoded, prompt_options):
        console.print(sentence)
    tokens = np.where(encoded.eligible, encoded.response_tokens, 0)
    taken = taken_rows(options.taken, tokens, options.n)  # before the model reads anything, for they may be too many
    prober = Prober(
        foundation=foundation, prompt=prompt, encoded=encoded, embedding=embedding, trainer=trainer,
        processes=processes, progress=progress,
    )  # fmt: skip
    columns = columns_of(dataset.iterate(), needs.columns)  # first, for they may be missing
    X = None
    if needs.space != "none":
        key = space_key(space_identity(settings, dataset, prober, cache))
        X = prober.foundation_embedding(cache / "foundation" / key)
    scores = {}
    if needs.statistics:
        model, folder = foundation.load().eval(), processes.share(temporary(out.with_suffix(".probe")))
        everything, names = np.arange(len(dataset)), sorted(needs.statistics)
        _, probed = prober.probe(model, everything, folder, embedding=False, statistics=names, what="ask the model")
        scores = {name: np.array(values) for name, values in probed.items()}
        processes.barrier()
        if processes.first:
            shutil.rmtree(folder)
    return dataset, Features(tokens, X, scores, columns), taken
