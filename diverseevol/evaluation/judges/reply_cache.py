"""Judges' replies, kept for good: an SQLite file, so that a question that was paid for is never asked again.

A reply is looked up by content: who is asked, the version of the wording, the question with both answers, and their
order. It is on disk as soon as it arrives, so that a killed run loses no reply; several processes may use one file.
"""

import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.storage.files import writing
from diverseevol.storage.reading import refuse_special

WAIT_SECONDS = 60.0  # for another process that is writing
STEP_SECONDS = 0.5  # of that wait, between which a signal can interrupt
VERSION = 1
# Replies, what an endpoint will not answer, which replies reached the limit of tokens, and which process is about to
# ask what. Files without one of these tables gain it.
TABLES = (
    "replies (key TEXT PRIMARY KEY, judge TEXT, prompt_version TEXT, question TEXT, answer_order INTEGER, "
    "text TEXT NOT NULL, model TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, at REAL)",
    "unanswered (key TEXT PRIMARY KEY, reason TEXT NOT NULL, at REAL)",
    "cut (key TEXT PRIMARY KEY)",
    "claims (key TEXT PRIMARY KEY, host TEXT, pid INTEGER, until REAL)",
)
ELSEWHERE = "or give judge.cache=FOLDER for another one"
# By SQLite's result code: what is wrong with the file, and what to do.
_UNWRITABLE = ("cannot be opened or written", "make it and its folder writable")
_LOCKED = (f"has been locked by another process for {WAIT_SECONDS:g} s", "end that process or wait for it")
_DAMAGED = ("is damaged, or is something else", "move it away or restore it from a copy")
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
SENTENCES = {
    **dict.fromkeys(BUSY, _LOCKED),
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_PERM: _UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: _UNWRITABLE,
    sqlite3.SQLITE_FULL: ("does not fit on its disk", "make room"),
    sqlite3.SQLITE_IOERR: ("could not be read or written", "check its disk, and that there is room"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_ERROR: ("holds other tables than expected", "move it away"),
}


@dataclass(frozen=True)
class Ask:
    """One thing to ask a judge.

    Attributes:
        judge: everything that decides who answers and how: the endpoint and model, or the weights, and their options.
        prompt_version: of the wording.
        question_id: for people who read the file.
        order: 0 where the model's answer is shown first, 1 where it is shown second.
        text: the complete prompt, with the question and both answers.
    """

    judge: str
    prompt_version: str
    question_id: str
    order: int
    text: str

    @cached_property
    def key(self) -> str:
        """A digest of the content."""
        content = json.dumps([self.judge, self.prompt_version, self.order, self.text])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: the judge's words.
        model: the name of the model that answered.
        prompt_tokens: None where the number is not known.
        completion_tokens: None where the number is not known.
        cut: whether it reached the limit of tokens.
        unanswered: whether this prompt will not be answered, and `text` says why.
    """

    text: str
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False
    unanswered: bool = False


def encodable(text: str) -> str:
    """A text as any file and any request can hold it: halves of surrogate pairs are joined, or else replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class ReplyCache(AbstractContextManager["ReplyCache"]):
    """The file, open; use it as a context manager, in one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():  # SQLite would write to its target
                raise InputError(
                    f"{path}: is a link, expected the file of judges' replies or nothing; give judge.cache=FOLDER the "
                    f"folder that it points to"
                )
            refuse_special(path)
            # The plain journal, not the write-ahead log: that one needs shared memory, which network disks lack.
            self._file = sqlite3.connect(path, timeout=min(STEP_SECONDS, WAIT_SECONDS), isolation_level=None)
        except sqlite3.Error as error:
            raise self._broken(error) from error
        try:
            self._file.create_function("may_live", 2, _may_live)
            ((version,),) = self._run("PRAGMA user_version")
            if version not in (0, VERSION):
                raise InputError(
                    f"{path}: the file of judges' replies is of version {version}, and this release knows version "
                    f"{VERSION}; use the release that wrote it, {ELSEWHERE}"
                )
            tables = (f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID" for table in TABLES)
            for statement in ("PRAGMA synchronous=FULL", *tables, f"PRAGMA user_version={VERSION}"):
                self._run(statement)
        except BaseException:
            self._file.close()
            raise

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def get(self, ask: Ask, *, refusals: bool = False) -> Reply | None:
        """The reply, if this was asked before.

        Args:
            ask: what was asked.
            refusals: whether a prompt that was refused counts, with the reason for a reply.
        """
        rows = self._run(
            "SELECT text, model, prompt_tokens, completion_tokens, EXISTS (SELECT 1 FROM cut WHERE key = replies.key) "
            "FROM replies WHERE key = ?",
            (ask.key,),
        )
        if rows:
            text, model, prompt_tokens, completion_tokens, cut = rows[0]
            counts = (prompt_tokens, completion_tokens)
            if not isinstance(text, str):
                raise self._damaged("replies", ask, f"text is {_kind(text)}")
            if not isinstance(model, str | None) or not all(isinstance(count, int | None) for count in counts):
                raise self._damaged("replies", ask, f"model and tokens are {', '.join(map(_kind, rows[0][1:4]))}")
            return Reply(text, model, prompt_tokens, completion_tokens, bool(cut))
        rows = self._run("SELECT reason FROM unanswered WHERE key = ?", (ask.key,)) if refusals else []
        if rows and not isinstance(rows[0][0], str):
            raise self._damaged("unanswered", ask, f"reason is {_kind(rows[0][0])}")
        return Reply(rows[0][0], unanswered=True) if rows else None

    def put(self, ask: Ask, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns.

        Of two replies to the same ask the first is kept, and of two reasons not to answer it the second.
        """
        if reply.unanswered:
            reason = encodable(reply.text)
            self._run("INSERT OR REPLACE INTO unanswered VALUES (?, ?, ?)", (ask.key, reason, time.time()))
            return
        texts = (ask.key, ask.judge, ask.prompt_version, ask.question_id)
        values = (
            *map(encodable, texts), ask.order, encodable(reply.text),
            None if reply.model is None else encodable(reply.model),
            _storable(reply.prompt_tokens), _storable(reply.completion_tokens), time.time(),
        )  # fmt: skip
        if reply.cut:
            self._run("INSERT OR IGNORE INTO cut VALUES (?)", (ask.key,))
        self._run(f"INSERT OR IGNORE INTO replies VALUES ({', '.join('?' * len(values))})", values)

    def claim(self, ask: Ask, seconds: float) -> bool:
        """Be the process that asks this; False where another one does already.

        A claim ends when it is given up, after so many seconds, or with its process. One that runs for longer than any
        process claims does not count: the file may be damaged, and the clocks of other machines may be wrong.
        """
        claims = self._run(
            "INSERT INTO claims VALUES (:key, :host, :pid, :now + :seconds) ON CONFLICT (key) DO UPDATE "
            "SET host = :host, pid = :pid, until = :now + :seconds WHERE (host = :host AND pid = :pid) "
            "OR typeof(until) != 'real' OR until NOT BETWEEN :now AND :now + 2 * :seconds OR NOT may_live(host, pid) "
            "RETURNING key",
            {"key": ask.key, "host": socket.gethostname(), "pid": os.getpid(), "now": time.time(), "seconds": seconds},
        )
        return bool(claims)

    def give_up(self, ask: Ask) -> None:
        """End this process's claim."""
        self._run(
            "DELETE FROM claims WHERE key = ? AND host = ? AND pid = ?", (ask.key, socket.gethostname(), os.getpid())
        )

    def _run(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return self._file.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if _code(error) not in BUSY or time.monotonic() > deadline:
                    raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> InputError:
        problem, remedy = SENTENCES.get(_code(error), ("cannot be used", "move it away"))
        return InputError(f"{self.path}: the file of judges' replies {problem} ({error}); {remedy}, {ELSEWHERE}")

    def _damaged(self, table: str, ask: Ask, problem: str) -> InputError:
        return InputError(
            f"{self.path}: the file of judges' replies is damaged: table {table}, key {ask.key}: {problem}; delete "
            f"that row, {ELSEWHERE}"
        )


def _code(error: sqlite3.Error) -> int:
    """SQLite's own result code, without its details; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def _kind(value: object) -> str:
    return {bytes: "binary", float: "a number with a fraction", int: "a number", str: "a text"}.get(type(value), "null")


def _storable(count: int | None) -> int | None:
    """A count that the database can hold."""
    return count if count is not None and 0 <= count < 2**63 else None


def _may_live(host: Any, pid: Any) -> bool:
    """Whether a process may still be at work; nothing is known of one on another machine."""
    if not isinstance(host, str) or not isinstance(pid, int) or pid <= 0:
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except PermissionError:
        pass  # of another user, and alive
    return True
