"""Where one of several processes fails or dies, all end within seconds, and its reason is said once."""

import functools
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_evolution
from forks import finish, fork, wait_until

from diverseevol.cli.app import _explain
from diverseevol.cli.workbench import _explained, _say
from diverseevol.engine.launch import join
from diverseevol.errors import InputError
from diverseevol.parallel import watch
from diverseevol.parallel.processes import Processes, leave
from diverseevol.parallel.watch import watched

Work = Callable[[Processes], None]


def places(world: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def run(folder: Path, *works: Work, twice: bool = False) -> tuple[list[int | None], list[str]]:
    """Exit codes of processes that do some work each under a watch, and what each said."""
    children = []
    for rank, (work, place) in enumerate(zip(works, places(len(works)), strict=True)):
        if not (child := os.fork()):
            code = 70
            try:
                sys.stderr = (folder / str(rank)).open("a", buffering=1)
                os.environ |= place
                code = _work(work, twice)
            finally:
                os._exit(code)
        children.append(child)
    codes = [finish(child) for child in children]
    return codes, [(folder / str(rank)).read_text() for rank in range(len(works))]


def _work(work: Work, twice: bool) -> int:
    code = 0
    for _ in range(1 + twice):
        processes = join()
        try:
            with watched(processes, functools.partial(_explained, verb="evolve"), _say):
                work(processes)
            code = 0
        except (KeyboardInterrupt, SystemExit) as ended:
            code = 130
            if isinstance(ended, KeyboardInterrupt) and processes.first:
                _say("interrupted; everything so far is kept")
        except Exception as error:
            code = _explain(error, "evolve")
        leave(processes)
    return code


def waits(processes: Processes) -> None:
    """Wait for a process that does not come."""
    processes.barrier()
    processes.barrier()


def busy(processes: Processes) -> None:
    """Do something for hours that no other process takes part in."""
    processes.barrier()
    time.sleep(3600)


def dies(processes: Processes) -> None:
    processes.barrier()
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(processes: Processes) -> None:
    processes.barrier()
    raise InputError("the disk of this process is full; make room")


def breaks(processes: Processes) -> None:
    processes.barrier()
    raise ZeroDivisionError("one is not divided so")


def interrupted(processes: Processes) -> None:
    processes.barrier()
    raise KeyboardInterrupt


def works(processes: Processes) -> None:
    processes.barrier()


KILLED = r"process {} of {} ended without a word: it was killed"
ALONE = [
    (dies, None, KILLED),
    (refuses, 2, "the disk of this process is full; make room"),
    (breaks, 1, r"failed in process {}: ZeroDivisionError: one is not divided so \(DIVERSEEVOL_TRACEBACK=1"),
    (interrupted, 130, "interrupted; everything so far is kept"),
]


@pytest.mark.parametrize("other", [waits, busy])
@pytest.mark.parametrize(("fails", "code", "reason"), ALONE)
@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_end_with_the_code_and_the_reason_of_the_one_that_fails(
    fails: Work, code: int | None, reason: str, rank: int, other: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(watch, "GRACE_SECONDS", 1.0)
    codes, said = run(tmp_path, *([fails, other] if rank == 0 else [other, fails]))
    expected = [code or 1] * 2
    if code is None:
        expected[rank] = -signal.SIGKILL
    assert codes == expected, said
    together = "".join(said)
    assert len(re.findall(reason.format(rank, 2), together)) == 1, together
    assert together.count("diverseevol:") == 1, together


def test_of_three_processes_the_one_that_was_killed_is_named(tmp_path: Path) -> None:
    codes, said = run(tmp_path, waits, busy, dies)
    assert codes == [1, 1, -signal.SIGKILL]
    assert "process 2 of 3 ended without a word" in said[0]
    assert said[1:] == ["", ""]


def test_what_all_processes_refuse_is_each_ones_own_and_the_next_job_has_a_watch_too(tmp_path: Path) -> None:
    codes, said = run(tmp_path, refuses, refuses, twice=True)
    assert codes == [2, 2]
    refusal = "diverseevol: the disk of this process is full; make room\n"
    assert said == [2 * refusal, ""]


def test_processes_that_succeed_leave_in_peace(tmp_path: Path) -> None:
    assert run(tmp_path, works, works, twice=True) == ([0, 0], ["", ""])


def test_one_process_has_no_watch() -> None:
    with pytest.raises(ZeroDivisionError), watched(Processes(), lambda error: pytest.fail("it asks"), print):
        raise ZeroDivisionError


SMALL = (*small_evolution.SMALL, "logger=none", "trainer.accelerator=cpu", "generation.max_new_tokens=2")


def _breaks_at_the_third_step() -> None:
    from diverseevol.engine.tuning.sft import InstructionTuner

    step = InstructionTuner.training_step

    def training(self: InstructionTuner, batch: list, index: int) -> None:
        if index == 2:
            raise InputError("the third step is refused; take another")
        step(self, batch, index)

    InstructionTuner.training_step = training  # type: ignore[method-assign]


@pytest.mark.slow
def test_an_evolution_of_which_one_process_fails_or_is_killed_ends_and_goes_on(tmp_path: Path) -> None:
    import diverseevol.cli.commands.evolve  # noqa: F401

    arguments = ["evolve", f"folder={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}", *SMALL]

    def start(name: str, *firsts: Callable[[], object]) -> list[int]:
        return [
            fork(arguments, tmp_path / f"{name}-{rank}", place, first)
            for rank, (place, first) in enumerate(zip(places(2), firsts, strict=True))
        ]

    nothing = lambda: None  # noqa: E731
    assert [finish(child) for child in start("refused", nothing, _breaks_at_the_third_step)] == [2, 2]
    said = [(tmp_path / f"refused-{rank}").read_text() for rank in range(2)]
    assert [text.count("the third step is refused; take another") for text in said] == [1, 0]
    assert "failed" not in "".join(said)

    children = start("killed", nothing, nothing)
    wait_until((tmp_path / "run/rounds/00/round.json").exists, children[0])
    os.kill(children[1], signal.SIGKILL)
    assert [finish(child) for child in children] == [1, -signal.SIGKILL]
    assert "process 1 of 2 ended without a word" in (tmp_path / "killed-0").read_text()
    assert [finish(child) for child in start("again", nothing, nothing)] == [0, 0]
    assert "there already" in (tmp_path / "again-0").read_text()
