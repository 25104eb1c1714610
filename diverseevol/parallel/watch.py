"""Several processes end together: where one fails or is killed, all end within seconds, and its reason is said once.

Otherwise its peers would wait for it in their next exchange for as long as rank 0 may be busy alone: a day.

Every process has an open connection to a thread of rank 0, the arbiter. A process that fails sends its exit code and
its reason; of one that is killed the system closes the connection. The arbiter waits a moment for what others have to
say. If all failed, as they do of a refused input, each ends its command by itself, and a sweep goes on to its next job.
If not, the arbiter says the reason, and all processes end with its exit code: by an exception where they meet the lost
one in an exchange, at the latest after some seconds.
"""

import json
import logging
import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import Any

from diverseevol.errors import PeerError
from diverseevol.parallel.processes import Processes

SETTLE_SECONDS = 4.0  # for which the arbiter waits for what other processes have to say
GRACE_SECONDS = 8.0  # for which a process that was told to end may take to do so in its own way
INTERRUPTED = 130  # the exit code
LONGEST_MESSAGE = 1 << 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """What becomes of all processes.

    Attributes:
        code: with which they end; None where each ends by its own.
        of: the process that is the reason; -1 where all failed.
        reason: in a sentence.
    """

    code: int | None = None
    of: int = -1
    reason: str = ""


class Watch:
    """This process's connection to the arbiter."""

    def __init__(self, connection: socket.socket, processes: Processes, say: Callable[[str], None]) -> None:
        """Listen on a thread from now on.

        Args:
            connection: to the arbiter.
            processes: this process and its peers.
            say: shows a sentence, here where rank 0 is lost.
        """
        self._connection = connection
        self._processes = processes
        self._say = say
        self._over = Event()  # the arbiter has decided, or is gone
        self._left = False
        self._decision = Decision()
        Thread(target=self._listen, name="diverseevol-watch", daemon=True).start()

    def fail(self, error: BaseException, code: int, reason: str) -> None:
        """Say that this process has failed; returns where it is to end by its own error.

        Raises:
            PeerError: another process is the reason, or SystemExit, where that was interrupted.
        """
        with suppress(OSError):
            _send(self._connection, {"code": code, "reason": reason[: LONGEST_MESSAGE // 8]})
        self._over.wait(SETTLE_SECONDS + GRACE_SECONDS)
        decision = self._decision
        if decision.code is None:
            return
        if decision.of == self._processes.rank:
            error.explained = not self._processes.first  # type: ignore[attr-defined]
            return
        if decision.code == INTERRUPTED:
            raise SystemExit(decision.code) from error
        raise PeerError(decision.code, decision.reason) from error

    def leave(self) -> None:
        """End the watch: this process is done."""
        self._left = True
        with suppress(OSError):
            _send(self._connection, {"done": True})
            self._connection.shutdown(socket.SHUT_WR)

    def _listen(self) -> None:
        for message in _messages(self._connection):
            self._decision = Decision(**message)
            break
        else:
            if self._left:
                return
            self._decision = Decision(1, 0, _lost(0, self._processes.world))
            if self._processes.rank == 1:
                self._say(self._decision.reason)
        self._over.set()
        if self._decision.code is not None:  # libraries may wait for a lost process, even as this one ends
            time.sleep(GRACE_SECONDS)
            os._exit(self._decision.code)


@contextmanager
def watched(
    processes: Processes, explain: Callable[[BaseException], tuple[int, str]], say: Callable[[str], None]
) -> Iterator[None]:
    """Watch over this process and its peers while the block runs.

    Args:
        processes: this process and its peers; all of them enter the block together.
        explain: the exit code of an exception, and what went wrong in a sentence.
        say: shows a sentence.

    Raises:
        PeerError: this process failed because another one did.
    """
    watch = None if processes.world == 1 else _start(processes, say)
    if watch is None:
        yield
        return
    try:
        yield
    except BaseException as error:
        watch.fail(error, *explain(error))
        watch.leave()
        raise
    watch.leave()


def _start(processes: Processes, say: Callable[[str], None]) -> Watch | None:
    host, token = os.environ.get("MASTER_ADDR", "127.0.0.1"), secrets.token_hex(16)
    server = None
    if processes.first:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        server = socket.create_server(("", 0), family=family, dualstack_ipv6=dual, backlog=processes.world)
    port, token = processes.share((server.getsockname()[1] if server else 0, token))
    if server is not None:
        arbiter = Arbiter(server, token, processes.world, say)
        Thread(target=arbiter.run, name="diverseevol-arbiter", daemon=True).start()
    try:
        connection = socket.create_connection((host, port), timeout=60)
    except OSError as error:
        log.warning("process %s cannot be watched over (%s:%s: %s)", processes.rank, host, port, error.strerror)
        return None
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that loses power closes nothing
    _send(connection, {"rank": processes.rank, "token": token})
    return Watch(connection, processes, say)


class Arbiter:
    """Listens to all processes, and decides once what becomes of them.

    Args:
        server: takes their connections.
        token: proves that a connection is a process's.
        world: how many there are.
        say: shows the reason for which all end.
    """

    def __init__(self, server: socket.socket, token: str, world: int, say: Callable[[str], None]) -> None:
        self.token = token
        self.world = world
        self.say = say
        self.connections: dict[int, socket.socket] = {}
        self.done: set[int] = set()
        self.lost: set[int] = set()
        self.failed: dict[int, tuple[int, str]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._server = server

    def run(self) -> None:
        """Listen until all processes have left, or something has happened, and decide."""
        while len(self.done) < self.world and not (self.failed or self.lost):
            self._hear(None)
        settled = time.monotonic() + SETTLE_SECONDS
        while not self._all_heard and (left := settled - time.monotonic()) > 0:
            self._hear(left)
        if self.failed or self.lost:
            decision = self.decide()
            if decision.of > 0:  # the first process speaks for itself
                self.say(decision.reason)
            for connection in self.connections.values():
                with suppress(OSError):
                    _send(connection, asdict(decision))
        self._server.close()

    @property
    def _all_heard(self) -> bool:
        return len(self.done | self.lost | self.failed.keys()) == self.world

    def decide(self) -> Decision:
        """What becomes of all; a process that is lost comes first, for others fail of it, then a refused input."""
        if self.lost:
            rank = min(self.lost)
            return Decision(1, rank, _lost(rank, self.world))
        if self._all_heard:
            return Decision()
        rank = min(self.failed, key=lambda rank: (self.failed[rank][0] != 2, self.failed[rank][0], rank))
        code, reason = self.failed[rank]
        return Decision(code, rank, reason)

    def _hear(self, seconds: float | None) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._server:
                connection, _ = self._server.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._selector.register(connection, selectors.EVENT_READ, {"rank": None, "text": b""})
            else:
                self._read(key.fileobj, key.data)  # type: ignore[arg-type]

    def _read(self, connection: socket.socket, peer: dict[str, Any]) -> None:
        try:
            content = connection.recv(4096)
        except OSError:
            content = b""
        *lines, peer["text"] = (peer["text"] + content).split(b"\n")
        for line in lines:
            if peer["rank"] is None:
                message = _greeting(line)
                if message.get("token") != self.token:
                    content = b""
                    break
                peer["rank"] = rank = int(message["rank"])
                self.connections[rank] = connection
            elif "done" in (message := json.loads(line)):
                self.done.add(peer["rank"])
            else:
                self.failed[peer["rank"]] = (message["code"], message["reason"])
        if not content or len(peer["text"]) > LONGEST_MESSAGE:
            self._selector.unregister(connection)
            if peer["rank"] is None:
                connection.close()
            elif peer["rank"] not in self.done:
                self.lost.add(peer["rank"])


def _greeting(line: bytes) -> dict[str, Any]:
    """The first line of a connection, which may be anybody's; empty where it is not a process's."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _lost(rank: int, world: int) -> str:
    return (
        f"process {rank} of {world} ended without a word: it was killed, perhaps because memory ran out; everything so "
        f"far is kept: the same command goes on from here"
    )


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """What comes over a connection until it is closed."""
    with suppress(OSError), connection.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)
