"""What judges have said, kept for good: an SQLite file from which a question that was paid for is never asked again.

A reply is found by content: who is asked, the wording's version, the question with both answers, and their order. It
is on disk as soon as it is there, so a killed run loses no reply, and several processes may use one file.
"""

import hashlib
import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from diverseevol.errors import InputError
from diverseevol.files import cannot_write

WAIT_SECONDS = 60  # for another process that is writing
VERSION = 1
TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, judge TEXT, prompt_version TEXT, question TEXT, answer_order INTEGER, text TEXT NOT NULL,
    model TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, at REAL
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Ask:
    """One thing to ask a judge.

    Attributes:
        judge: everything that decides who answers and how: the endpoint and model, or the weights, and their options.
        prompt_version: of the wording.
        question_id: for people who look into the file.
        order: 0 or 1.
        text: the whole prompt, with the question and both answers.
    """

    judge: str
    prompt_version: str
    question_id: str
    order: int
    text: str

    @property
    def key(self) -> str:
        """By content."""
        content = json.dumps([self.judge, self.prompt_version, self.order, self.text])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back; token counts are None where they are not known."""

    text: str
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ReplyCache:
    """The file, open; use it as a context manager, in one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The plain journal, not the write-ahead log: that one needs shared memory, which network disks lack.
            self._file = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
        except OSError as error:
            raise cannot_write(path, error) from error
        except sqlite3.Error as error:
            raise self._broken(error) from error
        try:
            (found,) = self._file.execute("PRAGMA user_version").fetchone()
            if found not in (0, VERSION):
                raise sqlite3.DatabaseError(f"version {found} where {VERSION} is known")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.execute(TABLE)
            self._file.execute(f"PRAGMA user_version={VERSION}")
        except sqlite3.Error as error:
            self._file.close()
            raise self._broken(error) from error

    def get(self, ask: Ask) -> Reply | None:
        """The reply, if this was asked before."""
        found = self._run("SELECT text, model, prompt_tokens, completion_tokens FROM replies WHERE key = ?", (ask.key,))
        return Reply(*found[0]) if found else None

    def put(self, ask: Ask, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns. Whoever comes second with one keeps the first."""
        values = (
            ask.key, ask.judge, ask.prompt_version, ask.question_id, ask.order, reply.text, reply.model,
            reply.prompt_tokens, reply.completion_tokens, time.time(),
        )  # fmt: skip
        self._run(f"INSERT OR IGNORE INTO replies VALUES ({', '.join('?' * len(values))})", values)

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> InputError:
        return InputError(
            f"{self.path}: the file of judges' replies cannot be used ({error}); make room or free the file, or give "
            f"judge.cache=FOLDER for another one"
        )

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
