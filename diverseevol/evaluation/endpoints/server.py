"""A server that answers questions in the model's place: where it is, and starting one with a model of ours."""

import hashlib
import importlib.util
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from diverseevol.errors import InputError, not_installed
from diverseevol.evaluation.endpoints.access import check_address, check_variable, read_key
from diverseevol.storage.names import safe_name

PLACES = ("folder", "base", "name", "port")  # what a command may name in braces
STOP_SECONDS = 30.0  # until a server that was asked to end is ended


@dataclass(frozen=True)
class Server:
    """Where questions are put instead of the model here: an OpenAI-compatible endpoint that serves it.

    Attributes:
        base_url: the endpoint.
        model: the model's name there; None is the only one that the server lists, or {name} where the command has it.
        key_variable: the environment variable that holds the key, the only place it is read from; None sends none.
        command: starts a server for each round, at {port}; without {port} it tells a running one to load the round's
            model, and ends. None: a server is running.
        startup: seconds until a command without {port} has to end, and the server has to answer.
        prompt: "ids" sends token ids (vLLM, SGLang, llama.cpp); "text" sends text, where it gives the same ids.
        concurrency: requests under way at a time.
        timeout: seconds for an answer.
        retries: further requests after one that failed in a way that may pass.
        backoff: seconds before the first of them, doubled each time, unless the server says how long to wait.
    """

    base_url: str = "http://localhost:8000/v1"
    model: str | None = None
    key_variable: str | None = None
    command: str | None = None
    startup: float = 900.0
    prompt: Literal["ids", "text"] = "ids"
    concurrency: int = 32
    timeout: float = 600.0
    retries: int = 6
    backoff: float = 1.0

    def __post_init__(self) -> None:
        if importlib.util.find_spec("openai") is None:
            raise not_installed("answers=server", "judge")
        for name, least, most in (
            ("concurrency", 1, 10_000),
            ("retries", 0, 1_000),
            ("backoff", 0, 3_600),
            ("timeout", 0.001, 86_400),
            ("startup", 0.001, 86_400),
        ):
            if not least <= (value := getattr(self, name)) <= most:
                raise InputError(f"answers.{name} is {value}; it must be a number from {least} to {most:,}")
        object.__setattr__(self, "base_url", check_address(self.base_url, "answers"))
        check_variable(self.key_variable, "answers")
        if self.command is not None:
            words = self.words({name: name for name in PLACES})
            unknown = re.search(r"\{\w+\}", " ".join(words))
            if unknown:
                raise InputError(
                    f"answers.command holds {unknown[0]}; what stands in braces is one of "
                    f"{', '.join(f'{{{name}}}' for name in PLACES)}"
                )
        self.key()

    def key(self) -> str | None:
        """The key from its environment variable."""
        return read_key(self.key_variable, self.base_url, "answers")

    def words(self, values: Mapping[str, str]) -> list[str]:
        """The command as its words, what stands in braces replaced; it goes through no shell.

        Raises:
            InputError: it cannot be taken apart.
        """
        try:
            words = shlex.split(self.command or "")
        except ValueError as error:
            raise InputError(f"answers.command is {self.command!r}, whose quotes do not match ({error})") from error
        if not words:
            raise InputError("answers.command is empty; give a command, or null for a server that is running")
        for name in PLACES:
            words = [word.replace(f"{{{name}}}", values[name]) for word in words]
        return words


@dataclass(frozen=True)
class Running:
    """A server that is asked, at the address and for the model that a command gave it.

    Attributes:
        server: the options.
        positions: how many the model has; None where it does not say.
        log: what the command writes.
        process: what the command started.
    """

    server: Server
    positions: int | None = None
    log: Path | None = None
    process: "subprocess.Popen[bytes] | None" = None

    def check(self) -> bool:
        """Whether the command lets the server be asked: one without {port} has to end first.

        Raises:
            InputError: it failed; with the end of what it wrote.
        """
        status = None if self.process is None else self.process.poll()
        if status:
            raise InputError(f"answers.command ended with exit code {status}{self._last_words()}")
        return status == 0 or not self._loads()

    def _loads(self) -> bool:
        """Whether the command only tells a running server what to load.

        Until it ends, that server is ready with the model of before; nothing else shows which one would answer.
        """
        return self.process is not None and "{port}" not in (self.server.command or "")

    def late(self) -> InputError:
        """What to say of a command that does not end, or of a server that does not answer, in time."""
        if self._loads() and self.process is not None and self.process.poll() is None:
            return InputError(
                f"answers.command has no {{port}}, so it must end once {self.server.base_url} has loaded the model, "
                f"and it still runs after {self.server.startup:g} s{self._last_words()}; give the command of a server "
                f"{{port}}, or raise answers.startup if loading needs longer"
            )
        return InputError(
            f"{self.server.base_url}: no server answers {self.server.startup:g} s after answers.command was started"
            f"{self._last_words()}; raise answers.startup if it needs longer to load the model"
        )

    def _last_words(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        words = [line.strip() for line in lines if line.strip().isprintable() and line.strip()]
        return f" ({words[-1][:300]}; all of it in {self.log})" if words else f" and wrote nothing ({self.log})"


@contextmanager
def serving(server: Server, folder: Path, base: str, log: Path, positions: int | None) -> Iterator[Running]:
    """The server while a model is asked: what `command` started ends with the block.

    Args:
        server: the user's options.
        folder: the model's or adapter's folder, {folder} in the command; what is no folder is a name on the hub, and
            stays as it is.
        base: the foundation model's path or name on the hub, {base}.
        log: gets what the command writes; it stays where the command or the answers fail.
        positions: how many the model has.

    Raises:
        InputError: the command cannot be started.
    """
    if server.command is None:
        yield Running(server, positions)
        return
    if folder.is_dir():
        folder = folder.resolve()
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    values = {
        "folder": str(folder), "base": base, "port": str(_free_port()),
        "name": safe_name(f"{folder.parent.name}-{folder.name}-{digest}".lstrip("-")),
    }  # fmt: skip
    command = server.command
    if "{port}" in command:
        server = replace(server, base_url=f"http://127.0.0.1:{values['port']}/v1")
    if "{name}" in command and server.model is None:
        server = replace(server, model=values["name"])
    words = server.words(values)
    with log.open("wb") as output:
        try:
            # A session of its own: whatever processes a server has end with it.
            process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            raise InputError(f"answers.command: {words[0]} cannot be started ({error.strerror or error})") from error
    try:
        yield Running(server, positions, log, process)
    finally:
        _end(process)
    log.unlink()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those that it started."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
