"""Run folders made up on the spot, in the shape that `evolve` leaves them: any number, any size, no training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diverseevol.evaluation.exam import save_questions
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.scores.scores import score
from diverseevol.geometry.distances import distance_to_pool
from diverseevol.runs.round_folder import Round
from diverseevol.runs.row_facts import RowFacts, write_row_facts
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.saved_config import ALWAYS
from diverseevol.runs.subset import write_subset
from diverseevol.storage.files import write_json, write_jsonl

HOSTILE = "</script><script>alert('row')</script><img src=x onerror=alert(1)> & \u2028 <!--"
# A name that would steer a terminal, rich, a shell, matplotlib or a spreadsheet, and a text that may also break lines.
STEERING_NAME = "=cmd|' [red]x [link=http:x] :smile: $a_{ \x1b]0;t\x07\x9b2J\u202e`touch touched`;touch touched;\""
STEERING_TEXT = (
    f"{STEERING_NAME} [/red] [/]\r\n=1+1 \x1b[2J\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x08\x7f\u2028 </script>"
)
RISING = (4.0, 5.0, 6.0, 6.5)


@dataclass(frozen=True)
class World:
    """A data set and a benchmark, and what is the same in all runs on them."""

    rows: int = 60
    questions: int = 4
    words: int = 8
    name: str = "toy/tiny"
    texts: Mapping[int, str] = field(default_factory=dict)
    judge: str = "gpt-x"
    benchmark: str = "toybench"

    def record(self, row: int) -> dict[str, Any]:
        instruction = self.texts.get(row, f"row{row} " + " ".join(f"w{(row * 7 + i) % 97}" for i in range(self.words)))
        return {"instruction": instruction, "input": "", "output": f"answer {row} " + "x " * self.words}

    def asked(self) -> tuple[Question, ...]:
        names = [f"q{i}" for i in range(self.questions)]
        return tuple(Question(q, f"What is {q}?", competitor=f"{q}, says the competitor {HOSTILE}") for q in names)

    def map(self) -> np.ndarray:
        return np.random.default_rng(5).normal(size=(self.rows, 2)).astype(np.float32)


def lay_run(
    outputs: Path,
    world: World,
    sampler: str = "kcenter",
    seed: int = 0,
    *,
    schedule: str = "iterative",
    rounds: int = 3,
    size: int = 10,
    done: int | None = None,
    scores: Sequence[float] | None = None,
    extra: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    choices: str = "",
) -> Path:
    """Lay one run folder.

    Args:
        outputs: the folder above.
        world: what is chosen from and asked.
        sampler, seed, schedule: name the folder.
        rounds: the schedule's last round.
        size: rows of P_0 and of each selection.
        done: whole rounds, where the run was cut; None is all of them.
        scores: the model's score for each round, by every judgement; None is not judged.
        extra: further metrics, the same in every round.
        options: further entries of the fingerprint.
        choices: the hash of choices that ends the folder's name.
    """
    path = outputs / world.name / "-".join(filter(None, [sampler, schedule, choices])) / f"seed{seed}"
    facts = {"data": world.name, "seed": seed, "sampler": sampler, "schedule.seed_size": 9}
    run = RunFolder(path, {**facts, **(options or {})})
    path.mkdir(parents=True)
    sizes = {"rounds": rounds, "seed_size": size, "step_size": size}
    config = {**{key: {} for key in ALWAYS}, "seed": seed, "schedule": sizes}
    (path / "config.yaml").write_text(json.dumps(config))
    write_json(path / "fingerprint.json", run.fingerprint)
    np.save(path / "map.npy", world.map())
    save_questions(path, [Benchmark(world.benchmark, world.asked())])
    order = np.random.default_rng([seed, len(sampler)]).permutation(world.rows)
    order[:size] = np.random.default_rng(seed).permutation(world.rows)[:size]
    order = np.array(list(dict.fromkeys([*order.tolist(), *range(world.rows)])))
    finished = []
    for t in range(rounds + 1 if done is None else done):
        pool = order[: size * (t + 1)].tolist()
        chosen = order[size * (t + 1) : size * (t + 2)].tolist() if t < rounds else []
        round_folder = run.round(t).path
        write_jsonl(round_folder / "training.jsonl", [{"step": 1, "loss": 2.0, "learning_rate": 0.1}])
        if chosen:
            write_jsonl(round_folder / "chosen.jsonl", (_pick(world, i, row, pool[0]) for i, row in enumerate(chosen)))
        _answer(world, round_folder, t, None if scores is None else scores[t])
        metrics = _metrics(len(pool), sampler, seed, extra or {})
        finished.append(Round(t, tuple(pool), tuple(chosen), metrics, {"fit": 2.0, "judge": 0.5}, {"fit": 10**9}))
        run.round(t).finish(finished[-1])
    if done is None:
        joined = {row: done.index for done in reversed(finished) for row in done.trained_on}
        receipts = ({"row": row, "joined": joined[row]} for row in finished[-1].trained_on)
        write_subset(path, receipts, lambda row: json.dumps(world.record(row)))
        _keep_facts(path, world, np.array(finished[-1].trained_on))
    return path


def _keep_facts(path: Path, world: World, pool: np.ndarray) -> None:
    """What is kept of every row, with the map as the space; a row that is left over was held out."""
    tokens = np.full(world.rows, 9)
    left = np.setdiff1d(np.arange(world.rows), pool)
    tokens[left[:1]] = 0
    distance, nearest = distance_to_pool(world.map(), np.arange(world.rows), pool)
    nearest[pool] = pool
    texts = {row: world.record(row)["instruction"][:120] for row in range(world.rows)}
    write_row_facts(path, RowFacts(nearest, distance, tokens, texts))
    write_jsonl(path / "ineligible.jsonl", ({"row": int(row), "reason": "held out", "tokens": 9} for row in left[:1]))


def several_runs(folder: Path) -> Path:
    """Two samplers with three seeds, one run cut short, all rows, and an unjudged one-time schedule."""
    world = World(texts={int(np.random.default_rng(0).permutation(60)[0]): HOSTILE})
    for seed in range(3):
        lay_run(folder, world, "kcenter", seed, scores=[s + 0.1 * seed for s in RISING], extra={"skills_covered": 5.0})
        lay_run(folder, world, "random", seed, scores=[s - 1 - 0.1 * seed for s in RISING])
    lay_run(folder, world, "margin", 0, scores=RISING, done=2)
    lay_run(folder, world, "random", 0, schedule="full", rounds=0, size=60, scores=[7.0])
    lay_run(folder, world, "kcenter", 0, schedule="one_time", rounds=1)
    return folder


def _pick(world: World, rank: int, row: int, nearest: int) -> dict[str, Any]:
    record = world.record(row)
    return {
        "rank": rank, "row": row, "score": 0.5 - 0.001234567 * rank, "distance": 0.25, "nearest": nearest,
        "score_is": "far & <wide>", "space": "current",
        "instruction": record["instruction"][:120], "response": record["output"][:120],
        "nearest_instruction": world.record(nearest)["instruction"][:120],
    }  # fmt: skip


def _metrics(n: int, sampler: str, seed: int, extra: Mapping[str, float]) -> dict[str, float]:
    gain = (2.0 if sampler == "kcenter" else 1.0) + 0.05 * seed
    return {
        "pool_size": n, "train_loss": 3 / np.sqrt(n), "vendi_score": 1 + 0.1 * gain * np.log(n),
        "vendi_score_centred": gain * np.log(n), "vendi_score_current": 1.1, "coverage_radius": 1 / (gain * n), **extra,
    }  # fmt: skip


def _answer(world: World, folder: Path, t: int, mean: float | None) -> None:
    questions = [f"q{i}" for i in range(world.questions)]
    lines = [
        {"id": q, "instruction": f"What is {q}?", "input": "", "answer": f"{q}, says round {t} " + "y " * world.words}
        for q in questions
    ]
    write_jsonl(folder / "answers" / f"{world.benchmark}.jsonl", lines)
    if mean is None:
        return
    judgements = [
        Judgement(q, order, min(10.0, max(0.0, mean + 0.5 * (i % 3) - 0.5)), 8.0, world.judge, "1",
                  f"reason {t} {q} {order} " + "z " * world.words)
        for i, q in enumerate(questions) for order in (0, 1)
    ]  # fmt: skip
    write_jsonl(folder / "judgements" / f"{world.benchmark}.jsonl", (vars(one) for one in judgements))
    write_json(folder / "scores.json", {world.benchmark: score(judgements).record()})
