"""The program: from its arguments to one command, or a sweep of them, and an exit code.

    diverseevol VERB [GROUP=CHOICE] [KEY=VALUE] …

Exit codes: 0 done, 1 failed, 2 the user's input or configuration, 130 interrupted.
"""

import atexit
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, ModuleType
from typing import Any, TypeVar

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from diverseevol import __version__
from diverseevol.cli.cluster import check_launcher, join_tasks, requeued
from diverseevol.cli.configuration import QUOTA_OPTIONS, Configuration
from diverseevol.cli.home_folder import in_arguments
from diverseevol.cli.mistakes import (
    check_addresses,
    check_appended,
    check_choices,
    check_flags,
    own_configuration,
    verdict,
    words_of,
)
from diverseevol.cli.naming import run_path
from diverseevol.cli.own_code import OwnConfiguration, opened, without_defaults
from diverseevol.cli.shipped import configuration_folder
from diverseevol.cli.skeletons import KINDS
from diverseevol.cli.streams import steady_streams
from diverseevol.cli.sweep import Ledger
from diverseevol.errors import InputError, meant
from diverseevol.output.shell import command, override
from diverseevol.output.terminal import LONGEST, finish, keep_plain, say, say_error
from diverseevol.parallel.background import left_at_work
from diverseevol.parallel.signals import ENDING

T = TypeVar("T")

VERBS = {  # each a module of diverseevol.cli.commands
    "evolve": "run an evolution: train, probe, choose rows, train again",
    "plan": "what an evolution will take: tokens, hours, memory, disk, judge's calls",
    "select": "choose rows once: by their words, a foundation model or embeddings",
    "answer": "let a model answer a benchmark, for instance as the competitor",
    "judge": "judge answers that are on disk: cached, resumable, under a budget",
    "score": "relative scores with intervals, from judgements in either layout",
    "compare": "better, worse or cannot tell, between samplers and between models",
    "export": "chosen rows for other people's trainers, with a card, in a folder or on the hub",
    "merge": "a round's adapter and the foundation weights as one model",
    "status": "what is done, running, failed or missing, and the command that runs it again",
    "explain": "why a row was chosen, or was not",
    "report": "figures, tables and one HTML page over any set of runs",
    "agreement": "how far one judge agrees with another on the same answers",
    "new": "a skeleton of your own sampler, judge, metric, format or benchmark",
}
# `diverseevol status outputs` says folder=outputs
ABOUT_A_FOLDER = ("status", "report", "score", "compare", "judge", "export", "explain")
NEW = "new"  # it has no configuration
MULTIRUN = {"-m", "--multirun"}
PLAN = "plan"  # its sweeps note nothing, and end with a sum


class Interrupted(BaseException):
    """Ctrl-C, or a batch system's signal. Not a KeyboardInterrupt, of which Lightning makes an exit code of its own."""


def main() -> None:
    """Run one command and exit with its code."""
    steady_streams()
    keep_plain()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        for line in _usage().split("\n"):
            say(line)
        sys.exit(0)
    if arguments[0] in ("-V", "--version"):
        say(f"diverseevol {__version__}")
        sys.exit(0)
    if arguments[0] in ("-sc", "--shell-completion"):
        arguments = _of_verb(arguments)
    code = _guarded(arguments[0], arguments[1:])
    _leave_at_once(code)
    if left_at_work():  # Python's own end would wait for it
        finish()
        os._exit(code)
    sys.exit(code)


def _of_verb(completion: list[str]) -> list[str]:
    """Shell completion is asked of the program; its answer is the verb's, which the line to be completed names."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split(maxsplit=2)
    if "query" not in "".join(completion):
        return ["evolve", *completion]
    if len(words) < 2 or words[1] not in VERBS or line.endswith(words[1]):
        say(" ".join(VERBS))
        sys.exit(0)
    if words[1] == NEW:
        say(" ".join(KINDS))
        sys.exit(0)
    os.environ["COMP_LINE"] = f"{words[0]} {words[2] if len(words) > 2 else ''}"
    os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    return [words[1], *completion]


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<10}{purpose}" for verb, purpose in VERBS.items())
    return (
        "diverseevol — which thousand of my instruction rows should I fine-tune on?\n\n"
        "Usage: diverseevol VERB [GROUP=CHOICE] [KEY=VALUE] …\n\n"
        f"{verbs}\n\n"
        "diverseevol VERB --help lists a verb's groups, choices and keys;\n"
        "diverseevol evolve alone runs the lab: no data, network, key or GPU needed.\n"
        'Shell completion: eval "$(diverseevol -sc install=bash)"'
    )


def _guarded(verb: str, arguments: list[str]) -> int:
    for number in ENDING:
        signal.signal(number, _interrupt)
    try:
        if verb not in VERBS:
            raise InputError(f"there is no command {verb!r}{meant(verb, VERBS)}; choose from {', '.join(VERBS)}")
        if verb == NEW:
            _module(NEW).new(arguments)
            return 0
        check_flags(verb, arguments)
        arguments = renamed(verb, arguments)
        check_launcher(arguments)
        check_addresses(arguments)
        check_choices(arguments)
        check_appended(verb, arguments)
        return _compose_and_run(verb, opened(in_arguments(arguments)))
    except Interrupted:
        _leave_at_once(130)
        _say("interrupted; everything so far is kept: the same command goes on from here")
        return 130
    except Exception as error:  # the last line of defence: whatever it is, it leaves as a sentence and a code
        return _explain(error, verb)


def with_folder(verb: str, arguments: list[str]) -> list[str]:
    """The arguments with a path that stands by itself as `folder=PATH`, for commands about a folder."""
    if verb not in ABOUT_A_FOLDER:
        return arguments
    alone = [word for word in words_of(arguments) if "=" not in word and not word.startswith(("~", "+"))]
    return [override("folder", word) if word in alone[:1] else word for word in arguments]


def renamed(verb: str, arguments: list[str]) -> list[str]:
    """The arguments with options under the names that Hydra can read.

    Where `conf/` has a group of an option's name, Hydra takes the option for a choice of that group in every command.
    `judgements=` is what `folder=` was called, and `data.path=` alone means `data=file`. Quotas are options of every
    sampler, and in none of their files, so that Hydra has to be told that they are new.
    """
    names = {"judgements": "folder"} if verb in ("score", "compare", "agreement") else {}
    if verb == "compare":
        names["metric"] = "metrics"
    pairs = [argument.partition("=") for argument in with_folder(verb, arguments)]
    keys = {key.lstrip("+~").partition("@")[0] for key, _, _ in pairs}
    paths = [key for key, _, _ in pairs if key == "data.path"]
    alone = verb in ("evolve", "plan", "select", "export") and paths and not {"data", "experiment"} & keys
    words = [f"{'+' * _is_quota(key)}{names.get(key, key)}{equals}{value}" for key, equals, value in pairs]
    if alone:  # beside the path, for Hydra takes no options after flags that stand between them
        words.insert([key for key, _, _ in pairs].index("data.path"), "data=file")
    return words


def _is_quota(key: str) -> bool:
    return key.startswith("sampler.") and key.split(".")[1] in QUOTA_OPTIONS


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"diverseevol.cli.commands.{verb}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _leave_at_once(code: int) -> None:
    """Let a signal end the process from here on: the work is on disk, and libraries that tidy up would trace it."""
    for number in ENDING:
        signal.signal(number, lambda *_: os._exit(code))


def _explain(error: BaseException, verb: str) -> int:
    """Say what went wrong in a sentence; the exit code."""
    if os.environ.get("DIVERSEEVOL_TRACEBACK") == "1":
        say_error(error)
    code, sentence = verdict(error, verb)
    if getattr(error, "explained", False):  # by the watch over several processes
        return code
    if code == 2:
        _say(sentence, LONGEST)
    else:  # every process speaks for itself
        say(f"diverseevol: {sentence} (DIVERSEEVOL_TRACEBACK=1 shows where)", error=True, longest=LONGEST)
    return code


def _say(text: str, longest: int | None = None) -> None:
    if _speaks():
        say(f"diverseevol: {text}", error=True, longest=longest)


def _speaks() -> bool:
    """Of several processes, the first one speaks."""
    return os.environ.get("RANK", "0") == "0"


def _compose_and_run(verb: str, arguments: list[str]) -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to `_explain` instead of Hydra's own report
    # Hydra's completion scripts name the program by the first word.
    sys.argv = ["diverseevol" if {"-sc", "--shell-completion"} & {*arguments} else f"diverseevol {verb}", *arguments]
    Plugins.instance().register(OwnConfiguration)
    job = _Job(verb, own_configuration(arguments))
    NoteSweep.job = job
    task = hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name=verb)(job)
    try:
        with TemporaryDirectory() as notes:  # Hydra's own of a sweep
            sys.argv += [f"hydra.sweep.dir={notes}"] if verb == PLAN and MULTIRUN & {*arguments} else []
            task()
    except Exception as error:
        if not job.composed and verdict(error, verb)[0] == 1:  # Hydra stumbled over what it was given
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"these arguments do not make a configuration ({reason}); see diverseevol {verb} --help"
            ) from error
        if job.ledger is None or (not job.ledger.ended() and verdict(error, verb)[0] == 2):
            raise  # nothing began: the sweep itself is the user's mistake
        _explain(error, verb)  # a launcher that broke: what it was running is cut off
    for run in job.single:
        run()
    if verb == PLAN and job.single:
        _module(PLAN).conclude()
    return 0 if job.ledger is None else _close(job.ledger)


def _close(ledger: Ledger) -> int:
    """Say which jobs of a sweep must be rerun, as commands; the exit code."""
    at_work = sum(job.at_work for job in ledger.jobs())
    if at_work:  # the launcher lost one of its jobs, and no longer waits for the others
        _say(f"{at_work} of {ledger.planned()} jobs of the sweep are still at work: diverseevol status shows them")
    if not (jobs := ledger.missing()):
        if ledger.verb == "evolve" and not at_work:
            runs = [job.folder for job in ledger.jobs() if job.folder is not None]
            common = Path(os.path.commonpath(runs)) if runs else Path("outputs")
            relative = common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common
            folder = override("folder", relative)
            _say(
                f"sweep complete; for figures and a page: {command('diverseevol', 'report', folder)}; for verdicts: "
                f"{command('diverseevol', 'compare', folder)} (or, where nothing was judged, with "
                f"metric=vendi_score_centred)"
            )
        return 1 if at_work else 0
    rest = "" if at_work else ", the others are done"
    _say(
        f"{len(jobs)} of {ledger.planned()} jobs of the sweep failed{rest}; rerun them with "
        f"{command('sh', str(ledger.folder / 'rerun.sh'))}, or one by one:"
    )
    for job in jobs:
        _say(f"  {job.command}")
        say(
            f"      # {job.failure or ('it never began' if job.began is None else 'it was interrupted')}",
            error=True,
            longest=LONGEST,
        )
    return 2 if all(job.code == 2 for job in jobs) else 1


def _run(configuration: Configuration) -> None:
    """Run a command; its module is imported only now, for seconds, and what is plainly missing is said before."""
    steady_streams()  # here too, for launchers run jobs in processes of their own
    # Torch reads it as it is loaded: its threads sleep while they wait. Otherwise they keep cores busy for milliseconds
    # after each product, at the cost of threads that work side by side and of other programs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if configuration.verb in ("evolve", PLAN):
        configuration.complete()
    importlib.import_module("diverseevol.cli.early").refuse_early(configuration.verb, configuration)
    _module(configuration.verb).run(configuration)


class NoteSweep(Callback):
    """Hydra's callback that begins a sweep's ledger (see conf/, hydra.callbacks)."""

    job: "_Job"  # the command's, which carries the ledger to wherever the launcher runs it

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the jobs that Hydra's own sweeper will make of the overrides."""
        self.job.composed = True
        if self.job.verb == PLAN:
            return
        settings = config.hydra
        swept = OmegaConf.to_container(settings.overrides.task)
        if not str(settings.sweeper._target_).endswith("BasicSweeper") or not isinstance(swept, list):
            return
        batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(map(str, swept))), None)
        runs_here = "BasicLauncher" in str(settings.launcher._target_)
        own = [word for word in _of_hydra(settings.overrides) if not (runs_here and word.startswith("hydra/launcher"))]
        launcher = (*(() if runs_here else ("-m",)), *self.job.flags, *own)
        ledger = Ledger(Path(settings.sweep.dir).absolute(), self.job.verb, launcher)
        try:
            ledger.plan([overrides for batch in batches for overrides in batch])
        except (InputError, OSError) as error:  # Hydra would only warn of what a callback raises
            self.job.unplanned = error
        else:
            self.job.ledger = ledger


def _of_hydra(overrides: Any) -> list[str]:
    """The overrides of Hydra's own configuration, as they were typed."""
    return [str(word) for word in overrides.hydra if not str(word).startswith("hydra.mode=")]


class _Job:
    """What Hydra calls with a composed configuration: kept for after Hydra, or, in a sweep, run on the spot."""

    def __init__(self, verb: str, flags: Sequence[str] = ()) -> None:
        self.verb = verb
        self.flags = flags
        self.single: list[Callable[[], None]] = []
        self.composed = False
        self.ledger: Ledger | None = None
        self.unplanned: InputError | OSError | None = None
        self.__name__ = self.__qualname__ = verb

    def __call__(self, composed: DictConfig) -> None:
        self.composed = True
        if self.unplanned is not None:
            raise self.unplanned
        settings = HydraConfig.get()
        chosen = settings.runtime.choices
        choices = {str(group): str(chosen[group]) for group in chosen if "/" not in str(group)}
        overrides, in_sweep = list(settings.overrides.task), settings.mode != RunMode.RUN
        without_defaults(composed, choices, overrides)
        configuration = Configuration(
            self.verb, composed, choices,
            shows_examples=not in_sweep or settings.job.num == 0,
            overrides=None if in_sweep else [*self.flags, *_of_hydra(settings.overrides), *overrides],
        )  # fmt: skip
        if not in_sweep or self.verb == PLAN:
            self.single.append(lambda: _run(configuration))
            return
        in_tasks = "submitit" in str(settings.launcher._target_)
        if in_tasks:
            join_tasks()
        note = _Note(self.ledger, settings.job.num, overrides)
        try:
            note.begin(configuration)
            with requeued(_out_of_time) if in_tasks else nullcontext():
                _run(configuration)
        except Exception as error:  # the sweep goes on; at its end it says what to run again
            _explain(error, self.verb)
            if self.ledger is None:
                raise
            code, sentence = verdict(error, self.verb)
            note.end(code, sentence)
            if code == 1 and not _speaks():
                # The launcher takes this job as done, which the ledger knows better, but where SLURM is to end the
                # first task, too, this one has to end with an error, after submitit's last word.
                atexit.register(os._exit, code)
        except SystemExit as leaving:  # of several processes this one failed alone, and all of them end
            if leaving.code in (1, 2) and isinstance(cause := leaving.__context__, Exception):
                note.end(*verdict(cause, self.verb))
            raise
        else:
            note.end()


def _out_of_time(number: int, frame: FrameType | None) -> None:
    _say("the job's time is over; everything so far is kept, and the job is queued again")
    _interrupt(number, frame)


@dataclass(frozen=True)
class _Note:
    """What a sweep's ledger says of the job that this process runs, by itself or as one of several tasks."""

    ledger: Ledger | None
    number: int
    overrides: Sequence[str]

    def begin(self, configuration: Configuration) -> None:
        """Note that the job is running, and where."""
        if self.ledger is not None and _speaks():
            folder = run_path(configuration) if configuration.verb == "evolve" else None
            self.ledger.begin(self.number, self.overrides, folder)

    def end(self, code: int = 0, failure: str | None = None) -> None:
        """Note how the job ended: the first task its success, any task a failure, which may be its own."""
        if self.ledger is not None and (code or _speaks()):
            self.ledger.end(self.number, self.overrides, code, failure)
