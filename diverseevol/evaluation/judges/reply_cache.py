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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from diverseevol.errors import InputError
from diverseevol.storage.files import writing
from diverseevol.storage.reading import refuse_special

WAIT_SECONDS = 60.0  # for another process that is writing
STEP_SECONDS = 0.5  # of that wait, between which a signal can interrupt
VERSION = 1
TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, judge TEXT, prompt_version TEXT, question TEXT, answer_order INTEGER, text TEXT NOT NULL,
    model TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, at REAL
) WITHOUT ROWID
"""

# What an endpoint will not answer, which replies reached the limit of tokens, and which process is about to ask what;
# files without these tables gain them.
MORE_TABLES = (
    "CREATE TABLE IF NOT EXISTS unanswered (key TEXT PRIMARY KEY, reason TEXT NOT NULL, at REAL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS cut (key TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, host TEXT, pid INTEGER, until REAL) WITHOUT ROWID",
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
        order: 0 or 1.
        text: the complete prompt, with the question and both answers.
    """

    judge: str
    prompt_version: str
    question_id: str
    order: int
    text: str

    @property
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
        completion_tokens: likewise.
        cut: whether it reached the limit of tokens.
        unanswered: whether there is no reply, and `text` says why; not kept as a reply.
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


class ReplyCache:
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
            ((version,),) = self._run("PRAGMA user_version")
            if version not in (0, VERSION):
                raise InputError(
                    f"{path}: the file of judges' replies is of version {version}, and this release knows version "
                    f"{VERSION}; use the release that wrote it, or give judge.cache=FOLDER for another one"
                )
            for statement in ("PRAGMA synchronous=FULL", TABLE, *MORE_TABLES, f"PRAGMA user_version={VERSION}"):
                self._run(statement)
        except BaseException:
            self._file.close()
            raise

    def get(self, ask: Ask) -> Reply | None:
        """The reply, if this was asked before."""
        rows = self._run(
            "SELECT text, model, prompt_tokens, completion_tokens, EXISTS (SELECT 1 FROM cut WHERE key = replies.key) "
            "FROM replies WHERE key = ?",
            (ask.key,),
        )
        if not rows:
            return None
        text, model, prompt_tokens, completion_tokens, cut = rows[0]
        if not isinstance(text, str):
            raise self._damaged("replies", ask, f"text is {_kind(text)}")
        if not isinstance(model, str | None) or not all(
            isinstance(count, int | None) for count in (prompt_tokens, completion_tokens)
        ):
            raise self._damaged("replies", ask, f"model and tokens are {', '.join(map(_kind, rows[0][1:4]))}")
        return Reply(text, model, prompt_tokens, completion_tokens, bool(cut))

    def put(self, ask: Ask, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns. Of two to the same ask, the first is kept."""
        texts = (ask.key, ask.judge, ask.prompt_version, ask.question_id)
        values = (
            *map(encodable, texts), ask.order, encodable(reply.text),
            None if reply.model is None else encodable(reply.model),
            _storable(reply.prompt_tokens), _storable(reply.completion_tokens), time.time(),
        )  # fmt: skip
        if reply.cut:
            self._run("INSERT OR IGNORE INTO cut VALUES (?)", (ask.key,))
        self._run(f"INSERT OR IGNORE INTO replies VALUES ({', '.join('?' * len(values))})", values)

    def unanswered(self, ask: Ask) -> str | None:
        """Why this will never be answered, if the endpoint has said so before."""
        rows = self._run("SELECT reason FROM unanswered WHERE key = ?", (ask.key,))
        if rows and not isinstance(rows[0][0], str):
            raise self._damaged("unanswered", ask, f"reason is {_kind(rows[0][0])}")
        return str(rows[0][0]) if rows else None

    def put_unanswered(self, ask: Ask, reason: str) -> None:
        """Keep for good that this is not answered, with the latest reason."""
        self._run("INSERT OR REPLACE INTO unanswered VALUES (?, ?, ?)", (ask.key, encodable(reason), time.time()))

    def knows(self, ask: Ask) -> bool:
        """Whether this was asked before, with a reply or without."""
        return self.get(ask) is not None or self.unanswered(ask) is not None

    def claim(self, ask: Ask, seconds: float) -> bool:
        """Be the process that asks this; False where another one does already.

        A claim ends when it is given up, after so many seconds, or with its process.
        """
        host, pid = socket.gethostname(), os.getpid()
        rows = self._run("SELECT host, pid, until FROM claims WHERE key = ?", (ask.key,))
        holder = rows[0] if rows else None
        if holder is not None and holder[:2] != (host, pid) and _in_force(holder, 2 * seconds):
            return False
        # Only the claim that was read is replaced: of two processes that come at once, the second one inserts nothing.
        self._run("DELETE FROM claims WHERE key = ? AND until IS ?", (ask.key, holder[2])) if holder else None
        values = (ask.key, host, pid, time.time() + seconds)
        return bool(self._run("INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?) RETURNING 1", values))

    def give_up(self, ask: Ask) -> None:
        """End this process's claim."""
        self._run(
            "DELETE FROM claims WHERE key = ? AND host = ? AND pid = ?", (ask.key, socket.gethostname(), os.getpid())
        )

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return self._file.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if _code(error) not in BUSY or time.monotonic() > deadline:
                    raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> InputError:
        """What an error of the database means, and what to do."""
        problem, remedy = SENTENCES.get(_code(error), ("cannot be used", "move it away"))
        return InputError(f"{self.path}: the file of judges' replies {problem} ({error}); {remedy}, {ELSEWHERE}")

    def _damaged(self, table: str, ask: Ask, problem: str) -> InputError:
        return InputError(
            f"{self.path}: the file of judges' replies is damaged: table {table}, key {ask.key}: {problem}; delete "
            f"that row, or give judge.cache=FOLDER for another file"
        )

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _code(error: sqlite3.Error) -> int:
    """SQLite's own result code, without its details; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def _kind(value: object) -> str:
    return {bytes: "binary", float: "a number with a fraction", int: "a number", str: "a text"}.get(type(value), "null")


def _storable(count: int | None) -> int | None:
    """A count that the database can hold."""
    return count if count is not None and 0 <= count < 2**63 else None


def _in_force(holder: tuple[Any, ...], longest: float) -> bool:
    """Whether a claim holds: it has not expired, and its process may still be at work.

    The file may be damaged, and the clocks of other machines may be wrong: a claim for longer than any process claims
    does not hold.
    """
    host, pid, until = holder
    if not (isinstance(host, str) and isinstance(pid, int) and isinstance(until, int | float)):
        return False
    left = until - time.time()
    return 0 < left <= longest and pid > 0 and _lives(host, pid)


def _lives(host: str, pid: int) -> bool:
    """Whether a process may still be at work; nothing is known of one on another machine."""
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False  # no process has such a number
    except PermissionError:
        pass  # of another user, and alive
    return True
