"""A generated campaign of mistakes: command lines and files that a clumsy or hostile user may bring, over all verbs.

A case is one valid command with one or two things wrong: an option, a group, a flag, or a file that was emptied, cut
off, retyped, deleted or replaced by a folder. Cases come from a seed and a number alone, so each can be had again.
"""

import hashlib
import json
import os
import random
import resource
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from forks import after, finish, fork
from omegaconf import OmegaConf
from run_folders import World, lay_run

from diverseevol.cli.app import renamed
from diverseevol.cli.configuration import compose
from diverseevol.cli.shipped import shipped_choices

FIXTURE = Path(__file__).parent / "fixtures/run_folders_0_1"
SECONDS = 240  # of wall time that a case may take: a few of them on a quiet machine, many more where others are busy
MEMORY = 3 << 30  # bytes that a case may take beyond those of the process that it is forked from

MODEL = ("model=tiny", "model.hidden=8", "model.layers=1", "model.vocabulary=300")
ROWS = ("data=json", "data.path=rows.jsonl", "threads=1", "cache=cache")
QUESTIONS = ("benchmark=questions", "benchmark.path=questions.jsonl")
EVOLVE = (
    *ROWS, *MODEL, *QUESTIONS, "schedule.rounds=1", "sizes.seed=3", "sizes.step=2", "tuning.steps=1",
    "tuning.batch_size=2", "generation.max_new_tokens=2", "keep_models=none", "logger=none",
)  # fmt: skip
ANSWER = ("answer", "model.path=model", *QUESTIONS, "generation.max_new_tokens=2", "cache=cache")
COMPETED = (*QUESTIONS, "benchmark.competitor=competitor.jsonl")
OPENAI = (
    *COMPETED,
    "judge=openai",
    "judge.base_url=http://127.0.0.1:9/v1",
    "judge.key_variable=null",
    "judge.max_calls=0",
)

# What works, by verb: each with the files of the world that it reads.
Base = tuple[tuple[str, ...], tuple[str, ...]]
RUN = "runs/toy/tiny/*/seed0"
IN_RUNS = (
    f"{RUN}/config.yaml", f"{RUN}/fingerprint.json", f"{RUN}/questions/*", f"{RUN}/rounds/0?/round.json",
    f"{RUN}/rounds/0?/chosen.jsonl", f"{RUN}/rounds/0?/answers/*", f"{RUN}/rounds/0?/judgements/*",
    f"{RUN}/rounds/0?/scores.json", f"{RUN}/map.npy", f"{RUN}/selected.jsonl", f"{RUN}/rounds/0?/training.jsonl",
    f"{RUN}/receipts.jsonl",
)  # fmt: skip
ARM = "old/rows/tiny/random-iterative-61348c43/seed0"
IN_OLD = tuple(f"old/rows/tiny/*/seed0{file.removeprefix(RUN)}" for file in IN_RUNS)
IN_MODEL = ("model/config.json", "model/model.safetensors", "model/tokenizer.json", "model/tokenizer_config.json")
IN_CACHE = ("cache/*/*", "cache/*/*/*")
IN_RUN = ("run/*", "run/rounds/0?/*", "run/rounds/0?/*/*")
BASES: Mapping[str, tuple[Base, ...]] = {
    "evolve": (
        (("evolve", *EVOLVE, "folder=new"), ("rows.jsonl", "questions.jsonl", *IN_CACHE)),
        (("evolve", *EVOLVE), ("rows.jsonl", "questions.jsonl")),
        (("evolve", *EVOLVE, "folder=run"), IN_RUN),
        (("evolve", *ROWS, "model=hf", "model.path=model", *EVOLVE[8:], "folder=new"), IN_MODEL),
    ),
    "select": (
        (("select", "embeddings=E.npy", "taken=T.json", "n=3", "out=P.json"), ("E.npy", "T.json")),
        (("select", "lengths=L.npy", "sampler=longest", "taken=taken.jsonl", "n=3", "out=P.json"),
         ("L.npy", "taken.jsonl")),
        (("select", *ROWS, *MODEL, "n=3", "out=P.json"), ("rows.jsonl", *IN_CACHE)),
        (("select", *ROWS, "model=hf", "model.path=model", "n=3", "out=P.json"), ("rows.jsonl", *IN_MODEL)),
    ),
    "answer": ((
        ((*ANSWER, "out=fresh"), ("questions.jsonl", *IN_MODEL)),
        ((*ANSWER, "out=answered"), ("answered/*", "answered/answers/*")),
    )),
    "judge": (
        (("judge", "folder=old/rows", "judge=gold", "logger=none", "cache=cache", "replace=true"), IN_OLD),
        (("judge", "folder=old", "judge=gold", "logger=none", "cache=cache", "out=judged"), IN_OLD),
        (("judge", "folder=run", "judge=gold", "logger=none", "cache=cache", "replace=true"), IN_RUN),
        (("judge", f"folder={ARM}", "judge=replay", f"judge.judgements={ARM}", "logger=none", "out=judged"), IN_OLD),
        (("judge", "folder=old/rows", *OPENAI, "logger=none", "cache=cache", "out=judged"), IN_OLD),
        (("judge", "folder=run", *COMPETED, "judge=local", "judge.path=model", "judge.max_tokens=2",
          "judge.max_unparsed=1", "logger=none", "cache=cache", "out=judged"), (*IN_RUN, *IN_MODEL)),
    ),
    "score": (
        (("score", "folder=runs", "out=scores.csv"), IN_RUNS),
        (("score", "folder=old", "out=scores.csv"), IN_OLD),
    ),
    "compare": (
        (("compare", "folder=runs", "out=verdicts.json"), IN_RUNS),
        (("compare", "folder=runs", "out=verdicts.json", "metric=[relative_score,vendi_score]"), IN_RUNS),
        (("compare", "folder=old/rows", "baseline=*random*", "out=verdicts.json"), IN_OLD),
    ),
    "report": (
        (("report", "folder=runs", "out=report"), IN_RUNS),
        (("report", "folder=old/rows", "out=report"), IN_OLD),
    ),
    "agreement": (
        (("agreement", "folder=runs", "recorded=runs", "out=agreement.json"), IN_RUNS),
        (("agreement", "folder=old/rows", "recorded=old/rows", "out=agreement.json"), IN_OLD),
    ),
}  # fmt: skip

LISTS = ("[]", "[1,2]", "[a,b]", "[[1],[2]]", "[null]", "{}", "{a:1}", "{a:{b:[c]}}")
BEYOND = ("nan", "inf", "-inf", "1e400", "-1e400", str(10**20), str(2**63), str(-(2**63) - 1), f"1{'0' * 400}")
NUMBERS = ("0", "-1", "1", "0.5", "-0.0", "1e-400", str(2**31), str(2**63 - 1), "3.0", "0x10")
WORDS = (
    "null", "true", "false", "", "''", "' '", "nosuch", "größe", "'a\u2028b'", "'a\u202eb'", "'a\x1b[31mb'", "'a\nb'",
    "'a\tb'", "'a\x00b'", "'[red]'", "'[/red]'", "'=1+1'", "'a;b'", "'a b'", "'*'", "'../../x'", "'~'", "'~nobody/x'",
    "'$HOME'", "a" * 300, "a" * 5000, "'" + "a/" * 2500 + "'", ".", "..", "/dev/null", "/dev/null/x", "/proc/self/mem",
    "rows.jsonl", "model", "runs", "E.npy", "nosuch.jsonl", "nosuch.json", "nosuch.npy", "empty", "empty.json",
    "binary.json", "binary.jsonl", "binary.npy", "binary.zip", "binary.tar.gz", "pipe.jsonl", "???",
    "${seed}", "${nosuch}", "${oc.env:HOME}", "${oc.env:NOSUCH}", "'${'", "'\\ud800'", "'%s{x}%'",
)  # fmt: skip
FLAGS = (
    "=", "=1", "a=", "-", "--", "-x", "--nosuch=1", "@", "~", "+", "++", "a.b.c=1", "seed=1=2", "[", "{", "'", '"',
    "\\", "größe=1", "\x1b[31m", "\x00", "--cfg", "--info", "--config-name=nosuch", "--config-path=nosuch", "--resolve",
    "--config-dir=nosuch", "--package=a", "-m", "--multirun", "--help", "--hydra-help", "--version", "--run",
    "--shell-completion", "hydra.job.chdir=maybe", "hydra=null", "hydra.run.dir=[a]", "hydra/launcher=nosuch",
    "hydra.sweep.dir=null", "",
    " ", "a" * 5000, "seed=1,2", "seed=range(1,3)", "seed=choice(1,x)", "seed=glob(*)", "seed=int(x)",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One command with something wrong.

    Attributes:
        arguments: verb and overrides.
        damage: what was done to which file, or None.
        refused: whether nothing but exit code 2 will do.
    """

    arguments: tuple[str, ...]
    damage: tuple[str, str] | None = None
    refused: bool = False

    def __str__(self) -> str:
        done = f"  # after {self.damage[1]} of {self.damage[0]}" if self.damage else ""
        return f"diverseevol {shlex.join(self.arguments)}{done}"


def cases(verb: str, count: int, seed: int, world: Path) -> Iterator[Case]:
    """So many cases of a verb."""
    for number in range(count):
        chance = random.Random(f"{verb} {seed} {number}")
        arguments, files = chance.choice(BASES[verb])
        kind = chance.choices(("option", "file", "key", "flag"), (10, 8, 3, 1))[0]
        if kind == "file":
            names = sorted(
                str(path.relative_to(world))
                for pattern in files
                for path in world.glob(pattern)
                if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
            )
            # A kind of file first, for there are many more of some than of others.
            stem = chance.choice(sorted({Path(name).name for name in names}))
            name = chance.choice([name for name in names if Path(name).name == stem])
            yield Case(arguments, (name, chance.choice(sorted(DAMAGES))))
        elif kind == "flag":
            flag = chance.choice(FLAGS)
            position = chance.randrange(1, len(arguments) + 1)
            yield Case((*arguments[:position], flag, *arguments[position:]))
        else:
            yield from _odd(arguments, kind, chance)


def _odd(arguments: tuple[str, ...], kind: str, chance: random.Random) -> Iterator[Case]:
    """An option of the composed configuration with a value that does not belong, or a key that does not."""
    verb, *overrides = arguments
    composed = OmegaConf.to_container(compose(verb, renamed(verb, list(_composable(overrides)))), resolve=False)
    options = dict(_options(composed))
    key = chance.choice(sorted(options))
    pool = chance.choice((LISTS, BEYOND, NUMBERS, WORDS, WORDS))
    value = chance.choice(pool)
    if kind == "key":
        group = chance.choice(("sampler", "model", "data", "prompt", "benchmark", "judge", "logger", "tuning", key))
        shipped = chance.choice(sorted(shipped_choices(group)) or ["none"])
        override = chance.choice(
            (f"~{key}", f"~{group}", f"+{key}.new={value}", f"++{key}.new={value}", f"+new={value}", f"+{key}={value}",
             f"{group}=[a,b]", f"{group}=null", f"{group}={value}", f"{group}={shipped}", f"+{group}={value}",
             f"{key}@x={value}", f"+{group}/new={value}", f"++{key}._target_={value}", f"~{key}={value}"),
        )  # fmt: skip
        yield Case((*arguments, override))
        return
    listed = {"metric", "folder", "judge.price"}
    default = options[key]
    plain = not isinstance(default, dict | list) and key not in listed and not key.startswith("trainer.")
    wrong = plain and "_target_" not in key and (
        (pool is LISTS)
        or (pool is BEYOND and isinstance(default, int | float) and not isinstance(default, bool))
    )  # fmt: skip
    yield Case((*arguments, f"{key}={value}"), refused=wrong and not _unused(arguments, key))


def _unused(arguments: tuple[str, ...], key: str) -> bool:
    """Whether nothing reads the option here: sizes that a schedule does not take, a budget of nothing to be paid."""
    part = key.split(".")[0]
    if arguments[0] == "select" and part in ("benchmark", "tuning"):
        return True
    if arguments[0] == "select" and "data=json" not in arguments:
        return part in ("prompt", "embedding", "model", "trainer", "data")
    return part in ("sizes", "hydra", "projection")


def _composable(overrides: tuple[str, ...]) -> list[str]:
    return [override for override in overrides if not override.startswith("-")]


def _options(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All options of a configuration, inner nodes too, by dotted path."""
    for name, value in node.items():
        key = f"{path}.{name}" if path else str(name)
        yield key, value
        if isinstance(value, dict):
            yield from _options(value, key)


def lay_world(folder: Path, model: Callable[[Path], object]) -> None:
    """Lay everything that the commands read.

    Args:
        folder: the world, still to be made.
        model: puts a pretrained model into a folder.
    """
    folder.mkdir(parents=True)
    for name in ("rows.jsonl", "questions.jsonl"):
        shutil.copy(FIXTURE / name, folder / name)
    shutil.copy(FIXTURE / ARM.removeprefix("old/") / "rounds/00/answers/questions.jsonl", folder / "competitor.jsonl")
    np.save(folder / "E.npy", np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))
    np.save(folder / "L.npy", np.arange(12))
    (folder / "T.json").write_text("[0, 5]")
    (folder / "taken.jsonl").write_text('{"row": 0}\n{"row": 5}\n')
    (folder / "empty").mkdir()
    (folder / "empty.json").touch()
    for name in ("binary.json", "binary.jsonl", "binary.npy", "binary.zip", "binary.tar.gz"):
        (folder / name).write_bytes(random.Random(name).randbytes(3000))
    for sampler in ("kcenter", "random"):
        lay_run(folder / "runs", World(rows=12, questions=2), sampler, rounds=1, size=3, scores=(4.0, 6.0))
    shutil.copytree(FIXTURE, folder / "old")
    shutil.rmtree(folder / "old/rows/tiny/kcenter-iterative-61348c43/seed1")
    model(folder / "model")
    for command in (
        ("evolve", *EVOLVE, "folder=run"),
        (*ANSWER, "out=answered"),
        ("select", *ROWS, "model=hf", "model.path=model", "n=3", "out=earlier.json"),
    ):
        code, _, errors = run(command, folder, folder.with_name("laying"))
        assert code == 0, errors


DAMAGES: Mapping[str, Callable[[Path, random.Random], None]] = {}


def damage(how: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], None]:
    """Register a kind of damage by its name."""
    DAMAGES[how.__name__.strip("_")] = how  # type: ignore[index]
    return how


@damage
def _emptying(file: Path, chance: random.Random) -> None:
    file.write_bytes(b"")


@damage
def _truncation(file: Path, chance: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(len(content) + 1)])


@damage
def _deletion(file: Path, chance: random.Random) -> None:
    file.unlink()


@damage
def _replacement_by_a_folder(file: Path, chance: random.Random) -> None:
    file.unlink()
    file.mkdir()


@damage
def _replacement_by_noise(file: Path, chance: random.Random) -> None:
    file.write_bytes(chance.randbytes(chance.choice((1, 50, 5000))))


@damage
def _replacement_by_another_file(file: Path, chance: random.Random) -> None:
    world = next(folder for folder in file.parents if folder.name == "world")
    files = [path for path in world.glob("*") if path.is_file()]
    file.write_bytes(chance.choice(sorted(files)).read_bytes())


@damage
def _a_flipped_byte(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 20))):
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


@damage
def _nesting(file: Path, chance: random.Random) -> None:
    depth = chance.choice((500, 100_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    file.write_text(opening * depth + ("1" if opening != "[" else "") + closing * depth)


@damage
def _retyping(file: Path, chance: random.Random) -> None:
    file.write_text(
        chance.choice(
            ("null", "1", '"text"', "[]", "{}", "[1]", '{"a": 1}', "true", "NaN", "1" * 5000, "\n\n", "\ufeff[]")
        )
    )


@damage
def _doubling(file: Path, chance: random.Random) -> None:
    file.write_bytes(file.read_bytes() * 2)


@damage
def _a_leaf_retyped(file: Path, chance: random.Random) -> None:
    """One value somewhere within JSON, JSONL or YAML becomes another, or its key another."""
    text = file.read_bytes().decode(errors="replace")
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    number = chance.randrange(len(lines)) if lines else 0
    try:
        tree = OmegaConf.to_container(OmegaConf.create(text)) if file.suffix == ".yaml" else json.loads(lines[number])
    except Exception:
        _a_flipped_byte(file, chance)
        return
    places = list(_places(tree))
    if places:
        node, key = chance.choice(places)
        if isinstance(node, dict) and chance.random() < 0.3:
            node[chance.choice(("new", "", "a\nb"))] = node.pop(key)
        else:
            node[key] = chance.choice(
                (None, True, -1, 0.5, 10**20, 2**63, "", "text", "\ud800", "a\x1b[31mb\n", [], {}, [1], {"a": 1},
                 float("nan"), float("inf"), "x" * 5000, [[[]]], 10**400)
            )  # fmt: skip
    lines[number] = json.dumps(tree)  # which is YAML, too
    file.write_text("\n".join(lines) + "\n")


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """All containers within a tree, each with one of its keys."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(inside):
        yield node, key
        yield from _places(value)


def snapshot(folder: Path) -> dict[str, str]:
    """What lies below a folder, the cache and locks left out: path -> digest, or what else it is."""
    kept = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top, name)
            relative = path.relative_to(folder)
            if relative.parts[0] in ("cache", "pipe.jsonl") or name.endswith(".lock") or path.is_symlink():
                continue
            kept[str(relative)] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return kept


def run(arguments: tuple[str, ...], folder: Path, log: Path, seconds: float = SECONDS) -> tuple[int | None, str, str]:
    """Run a command in a child whose memory is bounded, with a folder as its current one and its home.

    Returns:
        Exit code, or None if it had to be killed; what it wrote to stdout; to stderr.
    """
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    for file in (out, err):
        file.unlink(missing_ok=True)

    def first() -> None:
        sys.stdout = out.open("w", encoding="utf-8", errors="backslashreplace")
        os.chdir(folder)
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
        if pages:
            limit = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    variables = {
        "HOME": str(folder),
        "DIVERSEEVOL_CACHE": str(folder / "cache"),
        "WANDB_MODE": "disabled",
        "COLUMNS": "200",
    }
    code = finish(fork(list(arguments), err, variables, first), after(seconds))
    return code, *(file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in (out, err))


def trial(case: Case, template: Path, folder: Path, number: int) -> str | None:
    """Try a case in a fresh copy of the world; what was wrong, or None."""
    world = folder / "world"
    shutil.rmtree(world, ignore_errors=True)
    shutil.copytree(template, world)
    os.mkfifo(world / "pipe.jsonl")
    if case.damage:
        name, how = case.damage
        DAMAGES[how](world / name, random.Random(f"{case} {number}"))
    before = snapshot(world)
    code, out, errors = run(case.arguments, world, folder / "case")
    shown = f"{case}\n    -> exit {code}: {errors.strip()[-1500:] or out[-300:]!r}"
    if code is None:
        return f"HANGS {shown}"
    if code not in (0, 2) or "Traceback" in errors:
        return f"EXIT {code} {shown}"
    if code == 0:
        return f"ACCEPTED {shown}" if case.refused else None
    sentences = [line for line in errors.splitlines() if line.startswith("diverseevol: ")]
    if len(sentences) != 1 or errors.splitlines()[-1:] != sentences:
        return f"NOT ONE SENTENCE {shown}"
    now = snapshot(world)
    changed = sorted(name for name, digest in before.items() if now.get(name) != digest)
    left = sorted(name for name in now if name.endswith(".partial"))
    return f"CHANGED {changed + left} {shown}" if changed or left else None
