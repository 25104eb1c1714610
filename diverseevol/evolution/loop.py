"""The loop of DiverseEvol: train on the pool, probe all rows with the new model, let a sampler choose, repeat.

P_0 is drawn at random. Round t fine-tunes the *foundation* model on the pool P_t, asks the sampler for the picks S_t
among the candidates Q_t, measures the pool, and lets the model answer the benchmarks: P_{t+1} = P_t ∪ S_t (arXiv
2311.08182, section 3). The state of an evolution is which rows are in the pool, so a round that is on disk is
never repeated, and one that was interrupted goes on after its last complete phase.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from diverseevol.evaluation.exam import examine
from diverseevol.evaluation.judge_round import logged
from diverseevol.evaluation.scores.scores import read_scores
from diverseevol.evolution.committee import FOLDER, committee
from diverseevol.evolution.log_rounds import log_overview, log_round
from diverseevol.evolution.phase_notes import PEAK_MEMORY, SECONDS
from diverseevol.evolution.phases import Phases
from diverseevol.evolution.plateau import plateau
from diverseevol.evolution.receipts import pool_receipts
from diverseevol.evolution.setup import Evolution, Streams
from diverseevol.runs.round_folder import Round
from diverseevol.runs.subset import SELECTED, write_subset
from diverseevol.runs.tracking import Careful, KeepsData, NoLogger, RoundData, RunName, opened


def evolve(evolution: Evolution) -> list[Round]:
    """Run an evolution to its end, or the part of it that is missing.

    With `stop` it may end before the schedule's last round; it goes on from there without, or with more rounds.

    Rounds beyond the schedule's last are never dropped: where a folder has come further than it is asked for, no file
    of it changes unless an earlier round has to be made.

    Returns:
        All rounds of the folder, from the first to the last one that follows without a gap.

    Raises:
        InputError: the schedule does not fit the rows, or the folder's rounds cannot be trusted.
    """
    run, schedule, processes = evolution.run, evolution.schedule, evolution.learner.processes
    eligible = np.flatnonzero(evolution.learner.encoded.eligible)
    if evolution.stop is not None:
        ends = processes.share(run.stopped(schedule.rounds) if processes.first else None)
        schedule = schedule if ends is None else dataclasses.replace(schedule, rounds=ends)
    schedule.fits(len(eligible))
    tracker = Careful(evolution.tracker if processes.first else NoLogger())
    last = max((schedule.rounds, *processes.share(run.complete() if processes.first else set())))
    longer = last > schedule.rounds
    # A round that has to be made again must choose what the rounds after it were trained on: `last` decides, which is
    # the last that is asked for, or that the folder has.
    evolution = dataclasses.replace(evolution, tracker=tracker, schedule=dataclasses.replace(schedule, rounds=last))
    changed = not longer and not (run.path / SELECTED).exists()
    rounds: list[Round] = []
    pool = tuple(map(int, initial_pool(eligible, schedule.seed_size, evolution.streams)))
    for t in itertools.count():
        done = processes.share(run.round(t).resume(pool) if processes.first else None)
        if done is None and t > schedule.rounds:
            break
        # What was the last round chose nothing; where rounds were added, it goes on from the model that it left.
        if fresh := done is None or (t < schedule.rounds and not done.chosen):
            done = evolve_once(t, pool, evolution, rounds if not longer else None)
            changed = True
        assert done is not None
        rounds.append(done)
        if evolution.forecast is not None:
            evolution.forecast.observe(done)
        pool = (*pool, *done.chosen)
        if processes.first:
            if fresh or not longer:
                _tidy(evolution, t)
            evolution.on_round(done, fresh)
        if (t >= schedule.rounds and not done.chosen) or (fresh and done.stopped is not None):
            break
    if processes.first:
        if changed:
            log_overview(run.path, run, tracker, evolution.config)
        if not longer or (changed and rounds[-1].index == last):
            _write_pool(evolution, rounds[-1], run.path)
    return rounds


def initial_pool(
    eligible: Int[np.ndarray, " eligible"], size: int | None, streams: Streams
) -> Int[np.ndarray, " pool"]:
    """P_0: the same for every sampler and schedule of a seed; a smaller one is the start of a larger one."""
    return eligible if size is None else streams.generator(0, "initial pool").permutation(eligible)[:size]


def evolve_once(t: int, pool: tuple[int, ...], evolution: Evolution, earlier: Sequence[Round] | None = None) -> Round:
    """One round: train, select, measure, answer; every phase is found in its file or done now.

    Args:
        t: the round's index.
        pool: the rows of P_t, in the order in which they joined.
        evolution: what the round is a part of.
        earlier: the rounds before, for `stop` to look at; None where the evolution is not to end here.
    """
    run, schedule, sampler, exam = evolution.run, evolution.schedule, evolution.sampler, evolution.exam
    learner, streams, folder = evolution.learner, evolution.streams, evolution.run.round(t)
    P_t = np.asarray(pool, dtype=np.int64)
    spaces, keep_dtype = evolution.spaces, evolution.keep_dtype
    phases = Phases(t, P_t, folder, evolution.dataset, learner, streams, spaces, keep_dtype)
    predicted = None if evolution.forecast is None else evolution.forecast.predict(t, P_t)
    learner.progress.head(f"round {t}: ")
    name = RunName(group=run.name, name=f"round-{t:02d}", id=run.round_id(t))
    with opened(evolution.tracker, name, run.path, evolution.config) as log:
        phases.fit(log)
        picks: tuple[int, ...] = ()
        if t < schedule.rounds:  # nothing joins after the last round
            members = committee(t, P_t, sampler.needs, schedule, streams, run)
            picks = phases.select(sampler, schedule.step_size, members)
        metrics = phases.measure(evolution.metrics, exam.benchmarks)
        answers = streams.entropy(t, "answers")
        scores = examine(exam, learner, phases.model, folder.path, answers, phases.notes.timed, phases.served)
        stopped = None
        if evolution.stop is not None and earlier is not None and t < schedule.rounds:
            measured = [*(done.metrics for done in earlier), metrics]
            rows = [*(len(done.trained_on) for done in earlier), len(pool)]
            stopped = learner.processes.share(_stopped(evolution, rows, measured) if learner.processes.first else None)
        seconds, memory = phases.notes.seconds(), phases.notes.memory()
        done = Round(t, pool, picks, metrics, seconds, memory, predicted, stopped)
        if learner.processes.first:
            log_round(log, t, {**metrics, **scores}, folder.path / "chosen.jsonl")
            if isinstance(log, KeepsData):
                log.data(_data_of(evolution, done))
            # A round that was complete and chose nothing goes on where rounds were added; its round.json stays.
            if not (folder.path / "round.json").exists():
                folder.finish(done)
    return done


def _stopped(
    evolution: Evolution, rows: Sequence[int], metrics: Sequence[Mapping[str, float]]
) -> dict[str, Any] | None:
    """Why the evolution ends after the last of these rounds, by their metrics and scores; None where it goes on."""
    assert evolution.stop is not None
    names = [benchmark.name for benchmark in evolution.exam.benchmarks]
    values = [
        {**measured, **logged(read_scores(evolution.run.round(t).path), names)} for t, measured in enumerate(metrics)
    ]
    return plateau(evolution.stop, rows, values, evolution.metrics, evolution.schedule.rounds)


def _write_pool(evolution: Evolution, done: Round, folder: Path) -> None:
    """Write the rows that a round was trained on, with their receipts."""
    receipts = pool_receipts(evolution.run, done, evolution.dataset, evolution.tags)
    write_subset(folder, receipts, evolution.dataset.line)


def _data_of(evolution: Evolution, done: Round) -> RoundData:
    """What loggers may keep of a round's rows."""
    dataset = evolution.dataset
    sources = {source.name: source.stop - source.start for source in dataset.sources}
    return RoundData(
        name=dataset.name,
        facts={"name": dataset.name, "fingerprint": dataset.fingerprint, "rows": len(dataset), "sources": sources},
        places={source.name: source.where for source in dataset.sources},
        rows=len(done.trained_on),
        write=functools.partial(_write_pool, evolution, done),
    )


def _tidy(evolution: Evolution, t: int) -> None:
    """Remove what round t needed on its way, and the models that are not to be kept, now that it is complete."""
    complete = evolution.run.round(t)
    complete.drop(complete.probe, complete.path / FOLDER)
    complete.forget("measures.json", SECONDS, PEAK_MEMORY)
    if evolution.keep_models == "all":
        return
    # Models that sit on the next committee stay: the next round's, or the last one's own, should rounds be added.
    needed = evolution.sampler.needs.earlier
    needed += bool(needed) and t == evolution.schedule.rounds
    kept = max(needed, 1 if evolution.keep_models == "last" else 0)
    for earlier in range(t + 1 - kept):
        folder = evolution.run.round(earlier)
        folder.drop(folder.model, folder.adapter)
