"""`diverseevol select`: one selection without training, over the user's embeddings or over rows of data.

Of rows, the foundation model says what the sampler asks for: their embeddings, their statistics, or nothing. Without a
model, their words say how far apart they are.
"""

import importlib
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.cli.checked_options import SelectOptions, check_quota, has_model, sampler_of
from diverseevol.cli.choice_folder import choice_folder, holds_choice, write_choice
from diverseevol.cli.configuration import Configuration, missing
from diverseevol.cli.early import check_rows, check_weights
from diverseevol.cli.left_out_rows import left_out
from diverseevol.cli.output_files import choice_file
from diverseevol.cli.rows import bad_rows_file
from diverseevol.cli.tagged_rows import list_contamination, tagged
from diverseevol.data.columns import columns_of
from diverseevol.data.dataset import Dataset
from diverseevol.data.dataset_info import is_dataset_info
from diverseevol.data.row_numbers import read_row_numbers
from diverseevol.errors import InputError
from diverseevol.evolution.receipts import distances, receipt
from diverseevol.geometry.row_blocks import check_finite
from diverseevol.options import Embedding, PromptOptions
from diverseevol.output.terminal import say
from diverseevol.report.contamination import CONTAMINATION
from diverseevol.runs.subset import BAD_ROWS, PICKS
from diverseevol.samplers.base import Needs, Sampler, Selection, choose, pool_of
from diverseevol.samplers.features import Features
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import temporary, write_json, write_lines
from diverseevol.storage.reading import load_array

if TYPE_CHECKING:  # imported where rows are chosen from, for it takes seconds that embeddings of the user's do not need
    from diverseevol.cli.workbench import Workbench
    from diverseevol.engine.probing.prober import Prober


def run(settings: Configuration) -> None:
    """Choose rows, and write the choice."""
    options = settings.options("", SelectOptions)
    sampler = sampler_of(settings)
    if sampler.needs.committee or sampler.needs.earlier:
        raise InputError(
            f"sampler={settings.choices['sampler']} asks a committee of models that only diverseevol evolve trains; "
            f"use that"
        )
    with_data = settings.value("data") is not None
    if with_data == (options.embeddings is not None) and (with_data or options.lengths is None):
        problem = "both data and embeddings are" if with_data else "neither data nor embeddings are"
        raise InputError(f"{problem} given; give embeddings=E.npy, or data=… such as data.path=rows.jsonl")
    if with_data and options.lengths is not None:
        raise InputError("lengths and data are given, but data have lengths of their own; leave lengths out")
    in_words = "sampler.space" if sampler.needs.space == "text" else None
    if not with_data and (option := in_words if options.space is None else "space"):
        space = settings.value(option, str)
        raise InputError(f"{option}={space} is of rows, and embeddings are in a space already; leave {option} out")
    if with_data:
        folder = choice_folder(settings) if options.out is None else None
        _select_rows(settings, options, sampler, folder, choice_file(settings) if folder is None else folder / PICKS)
    elif options.out is None:
        raise InputError(missing("out", "select"))
    else:
        _select_over_embeddings(settings, options, sampler, choice_file(settings))


def _select_over_embeddings(settings: Configuration, options: SelectOptions, sampler: Sampler, out: Path) -> None:
    features = _user_features(options, sampler.needs, settings.choices["sampler"])
    taken = taken_rows(options.taken, features.response_tokens, options.number(len(features.eligible)))
    _use_threads(options)
    if sampler.needs.space != "none":  # the libraries that these compute with load for seconds: not on the clock
        for module in ("diverseevol.geometry.farthest_first", "sklearn.cluster"):
            importlib.import_module(module)
    record, _, summary = _chosen(settings, options, sampler, features, taken)
    write_json(out, record)
    _conclude(summary, [out])


def _select_rows(
    settings: Configuration, options: SelectOptions, sampler: Sampler, folder: Path | None, out: Path
) -> None:
    """Choose from the rows of data; what the model says of them is asked after all else is known to be right.

    Args:
        settings: the configuration.
        options: those of its root.
        sampler: chooses.
        folder: gets the choice with all that a reader wants to know of it; None where the user named a file.
        out: gets the numbers.
    """
    prompt = settings.options("prompt", PromptOptions)
    embedding = settings.options("embedding", Embedding)
    asked = _asked(settings, options.space, sampler.needs)
    with_model = has_model(settings, sampler.needs, asked if asked.endswith("foundation") else "")
    if with_model:
        check_weights(settings, "model")
    space, why = _space(asked, sampler.needs, with_model)
    cache = cache_folder(settings.value("cache", str | None))
    bad_rows = out.with_suffix(".bad_rows.jsonl") if folder is None else bad_rows_file(folder, cache)
    check_rows(settings, cache, bad_rows, options.verify_cache)
    from diverseevol.cli.fingerprint import choice_identity
    from diverseevol.cli.workbench import workbench

    _use_threads(options)
    with workbench(settings, options.verify_cache) as bench:
        dataset = bench.dataset(bad_rows)
        prober = bench.prober(dataset) if with_model else None
        tags = bench.tags(dataset, settings.part("benchmark", cache=bench.cache))
        if folder is None:
            contamination = out.with_suffix(".contamination.jsonl")
            if bench.processes.first:
                list_contamination(contamination, tags)
        else:
            contamination = folder / CONTAMINATION
        missing_rows = list(left_out(dataset, prober.encoded if prober else None, prompt))
        for sentence in (*missing_rows, *tagged(tags, str(contamination)), *why):
            bench.console.print(sentence)
        response_tokens = _response_tokens(dataset, prober)
        n = options.number(int((response_tokens > 0).sum()))
        taken = taken_rows(options.taken, response_tokens, n, dataset)  # refused before the model reads anything
        check_quota(sampler, dataset)
        identity = {"n": n, **choice_identity(settings, dataset, prober, bench.cache, space, taken)}
        if folder is not None and bench.processes.share(
            bench.processes.first and holds_choice(folder, identity, options.replace)
        ):
            return
        columns = columns_of(dataset.iterate(), sampler.needs.columns, dataset.sources)
        X = bench.text_embedding(dataset, embedding) if space == "text" else None
        scores: Mapping[str, Float[np.ndarray, " rows"]] = {}
        if prober:
            X, scores = _probe(bench, dataset, prober, sampler.needs.statistics, out, X, space)
        if bench.processes.first:
            features = Features(response_tokens, X, scores, columns)
            record, selection, summary = _chosen(settings, options, sampler, features, taken)
            pool = pool_of(features, taken)
            record["receipt"] = list(receipt(selection, dataset, X, pool, space))
            if written_as := _written_as(settings.value("data", dict)):
                record["data"] = written_as
            summary[0] = f"{dataset.name}: {summary[0]}"
            if folder is None:
                written = [out, out.with_suffix(".jsonl")]
                write_lines(written[1], map(dataset.line, record["chosen"]))
                write_json(out, record)
            else:
                written = write_choice(
                    folder, settings, dataset, tags, features, {**record, "request": identity},
                    summary=[*why, *summary[1:]], left_out=missing_rows, bad_rows=bad_rows,
                    lengths=prober.encoded.lengths if prober else None,
                )  # fmt: skip
            if dataset.bad_rows:
                listed = out.with_suffix(".bad_rows.jsonl") if folder is None else folder / BAD_ROWS
                say(f"{listed}: lists the bad records that were left out ({dataset.bad_rows:,})", error=True)
            _conclude(summary, written)
        bench.processes.barrier()


def _chosen(
    settings: Configuration,
    options: SelectOptions,
    sampler: Sampler,
    features: Features,
    taken: Bool[np.ndarray, " rows"],
) -> tuple[dict[str, Any], Selection, list[str]]:
    """Ask the sampler, with the rows taken as the pool: what is written of its choice, the choice, and a summary."""
    name = settings.choices["sampler"]
    began = time.perf_counter()
    n = options.number(len(features.eligible))
    selection = choose(sampler, features, taken, n, np.random.default_rng(options.seed))
    pool = pool_of(features, taken)  # of the rows taken, those without a response are not in it
    seconds = time.perf_counter() - began
    distance, nearest = distances(features.embedding, selection.rows, pool)
    record = {
        "chosen": selection.rows.tolist(), "score": selection.score.tolist(), "score_is": selection.meaning,
        "distance": distance, "nearest": nearest, "taken": pool.tolist(), "sampler": name,
        "options": {key: value for key, value in settings.value("sampler").items() if not key.startswith("_")},
        "seconds": round(seconds, 6),
    }  # fmt: skip
    summary = f"{n:,} of {features.rows:,} rows by {name} in {seconds:.1f} s"
    return record, selection, [summary, *_distance_summary(distance)]


def _written_as(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of data that say how records are written, for whoever reads the chosen ones; none by default."""
    named = {option: data[option] for option in ("fields", "roles") if any((data.get(option) or {}).values())}
    own = {"format": data["format"]} if data.get("format") is not None else {}
    return {**named, **own, **({"path": str(data["path"])} if is_dataset_info(data.get("path")) else {})}


def _conclude(summary: Sequence[str], written: Sequence[Path]) -> None:
    for line in (*summary, f"writes {' and '.join(map(str, written))}"):
        say(line, error=True)


def _use_threads(options: SelectOptions) -> None:
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)


def _response_tokens(dataset: Dataset, prober: "Prober | None") -> Int[np.ndarray, " rows"]:
    """The length of each row's response, 0 for one that may not be chosen."""
    if prober is not None:
        return np.where(prober.encoded.eligible, prober.encoded.response_tokens, 0)
    # Every row has a response; how much of it fits into prompt.max_length only a tokeniser could say.
    tokens = np.ones(len(dataset), dtype=np.int64)
    tokens[dataset.held_out] = 0
    tokens[dataset.copies.rows] = 0
    return tokens


def _asked(settings: Configuration, space: str | None, needs: Needs) -> str:
    """The option that says how rows are compared, "space=text" for example; "" where none does.

    A sampler's own default says nothing, nor does "current", for there is no round.

    Raises:
        InputError: two options contradict each other.
    """
    by_sampler = ""
    if needs.space == "text" or (
        needs.space == "foundation" and "sampler.space" in settings.differs_from_default(["sampler"], ["sampler"])
    ):
        by_sampler = f"sampler.space={needs.space}"
    if space is not None and by_sampler and space != needs.space:
        raise InputError(f"space={space} and {by_sampler} are two spaces; leave one of them out")
    return by_sampler if space is None else f"space={space}"


def _space(asked: str, needs: Needs, with_model: bool) -> tuple[str, list[str]]:
    """The space that rows are compared in, and a sentence that says which one and why; "none" needs no words."""
    if needs.space == "none":
        return "none", []
    if asked.endswith("foundation") or (not asked and with_model):
        return "foundation", ["space: foundation, rows are compared by the model's embeddings"]
    why = "" if asked else "; no model is given (model.path=MODEL takes its embeddings)"
    return "text", [f"space: text, rows are compared by their words{why}"]


def _probe(
    bench: "Workbench",
    dataset: Dataset,
    prober: "Prober",
    statistics: Collection[str],
    out: Path,
    X: Float[np.ndarray, "rows dim"] | None,
    space: str,
) -> tuple[Float[np.ndarray, "rows dim"] | None, Mapping[str, Float[np.ndarray, " rows"]]]:
    """What the foundation model says of all rows, as far as it is asked; an embedding that is there already is kept."""
    from diverseevol.cli.fingerprint import space_identity

    if space == "foundation":
        X = bench.foundation_embedding(prober, space_identity(bench.settings, dataset, prober, bench.cache))
    if not statistics:
        return X, {}
    folder = bench.processes.share(temporary(out.with_suffix(".probe")))
    _, probed = prober.probe(
        prober.foundation.load().eval(), np.arange(len(dataset)), folder,
        embedding=False, statistics=sorted(statistics), phase="ask the model",
    )  # fmt: skip
    scores = {name: np.array(values) for name, values in probed.items()}
    bench.processes.barrier()
    if bench.processes.first:
        shutil.rmtree(folder)
    return X, scores


def taken_rows(
    path: str | None, response_tokens: Int[np.ndarray, " rows"], n: int, dataset: Dataset | None = None
) -> Bool[np.ndarray, " rows"]:
    """The rows that may not be chosen: those that a file names, and those without a response token.

    Args:
        path: the file; None: there is none.
        response_tokens: tokens of each row's response; 0 for one that may not be chosen for any reason.
        n: how many rows are to be chosen.
        dataset: the rows, which know what else rules some of them out; None where only their numbers are known.

    Raises:
        InputError: the file does not name rows, or fewer than n are left.
    """
    rows = len(response_tokens)
    named = [] if path is None else read_row_numbers("taken", path, rows)
    taken: Bool[np.ndarray, " rows"] = response_tokens == 0
    held_out, copies = (0, 0) if dataset is None else (len(dataset.held_out), len(dataset.copies))
    empty = int(taken.sum()) - held_out - copies
    taken[named] = True
    left = int((~taken).sum())
    if n > left:
        parts = [f"taken={path} names {len(named):,}"] if named else []
        parts += [f"{empty:,} {'has' if empty == 1 else 'have'} no response token"] if empty else []
        parts += [f"{held_out:,} {'is' if held_out == 1 else 'are'} held out"] if held_out else []
        parts += [f"{copies:,} {'repeats another' if copies == 1 else 'repeat others'}"] if copies else []
        why = f", for {' and '.join(parts)}" if parts else ""
        remedies = [*(["lower n"] if left else []), *(["take fewer"] if named else []), "bring more rows"]
        raise InputError(
            f"n={n}: {left:,} of {rows:,} rows {'is' if left == 1 else 'are'} left to choose from{why}; "
            f"{', '.join(remedies[:-1])}{' or ' * (len(remedies) > 1)}{remedies[-1]}"
        )
    return taken


def _distance_summary(distance: list[float | None]) -> list[str]:
    """Lines that say how far the picks were from the rows in before each, and how many of them equal such a row."""
    known = [d for d in distance if d is not None]
    if not known:
        return []
    empty_pool = distance[0] is None
    before = "picked before" if empty_pool else "taken or picked before"
    summary = f"distance to the nearest row {before}: {known[0]:.4g}"
    if empty_pool or len(known) > 1:
        summary += " at the second" if empty_pool else " at first"
    if len(known) > 1:
        summary += f", {known[-1]:.4g} at the end"
    lines = [summary]
    if empty_pool:
        lines.append("(the pool was empty before the first pick)")
    if copies := known.count(0):
        lines.append(f"{copies:,} of them equal a row {before}")
    return lines


def _user_features(options: SelectOptions, needs: Needs, name: str) -> Features:
    """What the user's files hold, as far as the sampler can use it.

    Raises:
        InputError: the sampler needs more, or a file does not hold what it should.
    """
    instead = "give data=… and model=…, or a sampler of embeddings such as kcenter"
    for wanted, content in ((needs.columns, "the rows' own fields"), (needs.statistics, "a model's predictions")):
        if wanted:
            raise InputError(
                f"sampler={name} needs {content} ({', '.join(sorted(wanted))}), which embeddings do not hold; {instead}"
            )
    if needs.lengths and options.lengths is None:
        raise InputError(f"sampler={name} needs the lengths of the responses; give lengths=L.npy, whole numbers [rows]")
    if needs.space != "none" and options.embeddings is None:
        raise InputError(f"sampler={name} needs embeddings; give embeddings=E.npy, [rows, dim]")
    X = None if options.embeddings is None else _embeddings(options.embeddings)
    rows = None if X is None else len(X)
    tokens = np.ones(rows or 0, dtype=np.int64) if options.lengths is None else _lengths(options.lengths, rows)
    return Features(tokens, X)


def _embeddings(path: str) -> Float[np.ndarray, "rows dim"]:
    X = load_array(Path(path).expanduser(), f"embeddings={path}")
    if X.ndim != 2 or not X.shape[1] or X.dtype not in (np.float32, np.float16):
        raise InputError(
            f"embeddings={path}: expected an array [rows, dim] of float16 or float32, got {_shape(X)}; "
            f"save it with numpy.save(path, array.astype('float32'))"
        )
    check_finite(X)
    return X


def _lengths(path: str, rows: int | None) -> Int[np.ndarray, " rows"]:
    """The lengths of the responses, of as many rows as there are embeddings where there are any."""
    tokens = load_array(Path(path).expanduser(), f"lengths={path}")
    fits = tokens.ndim == 1 and rows in (None, len(tokens))
    if not fits or tokens.dtype.kind not in "iu" or (tokens < 0).any():
        raise InputError(
            f"lengths={path}: expected an array [{rows or 'rows'}] of whole numbers from 0 on, got {_shape(tokens)}; "
            f"give the tokens of each row's response"
        )
    return tokens.astype(np.int64)


def _shape(array: np.ndarray) -> str:
    return f"[{', '.join(map(str, array.shape))}] of {array.dtype}"
