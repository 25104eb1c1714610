"""The loop of DiverseEvol: train on the pool, probe all rows with the new model, let a sampler choose, repeat.

P_0 is drawn at random. Round t fine-tunes the *foundation* model on the pool P_t, measures the pool, lets the model
answer the benchmarks, and asks the sampler for the rows S_t that join: P_{t+1} = P_t ∪ S_t (arXiv 2311.08182,
section 3). The whole state of an evolution is which rows are in the pool, so a round that is on disk is never
repeated, and one that was cut goes on after its last whole phase.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Int

from diverseevol.evaluation.exam import examine
from diverseevol.evolution.committee import FOLDER
from diverseevol.evolution.log_rounds import log_overview
from diverseevol.evolution.phases import Phases
from diverseevol.evolution.setup import Evolution, Streams
from diverseevol.runs.round_folder import Round
from diverseevol.runs.run_folder import write_selected
from diverseevol.runs.tracking import Careful, NoTracker, RunName, opened


def evolve(evolution: Evolution) -> list[Round]:
    """Run an evolution to its end, or the part of it that is missing.

    Rounds beyond the schedule's last are never dropped: where a folder has come further than it is asked for, no file
    of it changes unless an earlier round has to be made.

    Returns:
        All rounds of the folder, from the first to the last one that follows without a gap.

    Raises:
        InputError: the schedule does not fit the rows, or the folder's rounds cannot be trusted.
    """
    run, schedule, first = evolution.run, evolution.schedule, evolution.learner.processes.first
    eligible = np.flatnonzero(evolution.learner.encoded.eligible)
    schedule.fits(len(eligible))
    evolution = dataclasses.replace(evolution, tracker=Careful(evolution.tracker if first else NoTracker()))
    last = max(evolution.learner.processes.share(run.complete() if first else set()), default=-1)
    longer = last > schedule.rounds
    if longer:  # a round that has to be made again chooses what the rounds after it were trained on
        evolution = dataclasses.replace(evolution, schedule=dataclasses.replace(schedule, rounds=last))
    news = not longer and not (run.path / "selected.jsonl").exists()
    rounds: list[Round] = []
    rows = tuple(map(int, initial_pool(eligible, schedule.seed_size, evolution.streams)))
    for t in itertools.count():
        folder = run.round(t)
        done = evolution.learner.processes.share(folder.resume(rows) if first else None)
        if done is None and t > schedule.rounds:
            break
        fresh = done is None or (t < schedule.rounds and not done.chosen)
        if fresh:
            done = evolve_once(t, rows, evolution)
        assert done is not None
        news = news or fresh
        rounds.append(done)
        rows = (*rows, *done.chosen)
        if first:
            if fresh or not longer:
                _tidy(evolution, t)
            evolution.on_round(done, fresh)
        if t >= schedule.rounds and not done.chosen:
            break
    if first:
        if news:
            log_overview(run.path, run, evolution.tracker, evolution.config)
        if not longer or (news and rounds[-1].index == last):
            write_selected(run.path / "selected.jsonl", rounds, evolution.dataset.record)
    return rounds


def initial_pool(
    eligible: Int[np.ndarray, " eligible"], size: int | None, streams: Streams
) -> Int[np.ndarray, " pool"]:
    """P_0: the same for every sampler and schedule of a seed; a smaller one is the start of a larger one."""
    return eligible if size is None else streams.generator(0, "initial pool").permutation(eligible)[:size]


def evolve_once(t: int, rows: tuple[int, ...], evolution: Evolution) -> Round:
    """One round: fit, probe, select, measure, examine; every phase is found in its file or done now.

    Args:
        t: the round's index.
        rows: the pool P_t.
        evolution: what the round is a part of.
    """
    evolution.learner.progress.head(f"round {t}: ")
    work = Phases(t, np.asarray(rows, dtype=np.int64), evolution)
    name = RunName(group=evolution.run.name, name=f"round-{t:02d}", id=evolution.run.round_id(t))
    with opened(evolution.tracker, name, evolution.run.path, evolution.config) as log:
        work.fit(log)
        chosen = work.select() if t < evolution.schedule.rounds else ()
        metrics = work.measure()
        scores = examine(
            evolution.exam,
            evolution.learner,
            work.model,
            work.folder.path,
            evolution.streams.entropy(t, "answers"),
            work.timed,
        )
        work.log(log, {**metrics, **scores})
        done = Round(t, rows, chosen, metrics, work.seconds(), work.memory())
        if evolution.learner.processes.first and not (work.folder.path / "round.json").exists():
            work.folder.finish(done)
    return done


def _tidy(evolution: Evolution, t: int) -> None:
    """Remove what round t needed on its way, and the models that are not to be kept, now that it is whole."""
    whole = evolution.run.round(t)
    whole.drop(whole.probe, whole.path / FOLDER)
    whole.forget("measures.json", "seconds.json", "peak_memory.json")
    if evolution.keep_models == "all":
        return
    # Models that sit on the next committee stay: the next round's, or the last one's own, should rounds be added.
    seated = evolution.sampler.needs.earlier
    seated += bool(seated) and t == evolution.schedule.rounds
    kept = max(seated, 1 if evolution.keep_models == "last" else 0)
    for earlier in range(t + 1 - kept):
        folder = evolution.run.round(earlier)
        folder.drop(folder.model)
