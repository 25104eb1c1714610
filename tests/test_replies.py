import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from chat_server import KEY, Answer, ChatServer, Request, by_length

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache

ASK = Ask("who", "v1", "q", 0, "text")
QUESTIONS = 20
NEEDED = 2 * QUESTIONS
IN_FLIGHT = 4
JUDGING = """
import sys
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.judges.openai_judge import OpenAI

url, cache = sys.argv[1:]
questions = tuple(Question(str(i), f"What is {i}?", competitor="y" * 6) for i in range(20))
judge = OpenAI(model="gpt-4", base_url=url, cache=cache, concurrency=4)
answers = {q.id: "x" * (int(q.id) % 9 + 1) for q in questions}
judgements = judge.judge(AnswerSheet(Benchmark("mine", questions), answers))
print(sum(j.model_score for j in judgements))
"""


def test_what_was_put_is_found_by_content_and_by_nothing_else(tmp_path):
    with ReplyCache(tmp_path / "sub" / "a.sqlite") as cache:
        assert cache.get(ASK) is None
        cache.put(ASK, Reply("8 7", "gpt-4-0613", 100, 5))
        cache.put(ASK, Reply("1 1"))  # whoever comes second keeps the first
    with ReplyCache(tmp_path / "sub" / "a.sqlite") as cache:
        assert cache.get(ASK) == Reply("8 7", "gpt-4-0613", 100, 5)
        assert cache.get(Ask("who", "v1", "another id", 0, "text")) is not None
        for other in (("who2", "v1", 0, "text"), ("who", "v2", 0, "text"), ("who", "v1", 1, "text")):
            judge, version, order, text = other
            assert cache.get(Ask(judge, version, "q", order, text)) is None
        assert cache.get(Ask("who", "v1", "q", 0, "text ")) is None


def test_several_writers_use_one_file(tmp_path):
    def write(who: str) -> None:
        with ReplyCache(tmp_path / "a.sqlite") as cache:
            for i in range(20):
                cache.put(Ask(who, "v1", str(i), 0, ""), Reply(f"{who} {i}"))
                cache.put(Ask(who, "v1", str(i), 0, str(i)), Reply(f"{who} {i}"))

    threads = [threading.Thread(target=write, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ReplyCache(tmp_path / "a.sqlite") as cache:
        found = [cache.get(Ask(who, "v1", str(i), 0, str(i))) for who in "ab" for i in range(20)]
    assert found == [Reply(f"{who} {i}") for who in "ab" for i in range(20)]


def test_a_file_that_is_something_else_is_said_so(tmp_path):
    (tmp_path / "a.sqlite").write_text("not a data base, but some text that is long enough to be looked at" * 20)
    with pytest.raises(InputError, match=r"a\.sqlite: the file of judges' replies is damaged, or is something else"):
        ReplyCache(tmp_path / "a.sqlite")


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "a.sqlite") as file:
        file.execute("PRAGMA user_version=99")
    file.close()
    with pytest.raises(InputError, match="version 99"):
        ReplyCache(tmp_path / "a.sqlite")


@pytest.fixture
def server():
    with ChatServer(lambda request: Answer(body=by_length(request).body, delay=0.03)).running() as running:
        yield running


def judging(server: ChatServer, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JUDGING, server.url, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OPENAI_API_KEY": KEY})


def test_a_killed_run_loses_no_reply_that_had_come(server, tmp_path):
    killed = threading.Event()

    def behaviour(request: Request) -> Answer:
        if len(server.requests) > NEEDED // 2:  # so that the work cannot be over before the signal
            killed.wait(60)
        return by_length(request)

    server.behaviour = behaviour
    first = judging(server, tmp_path)
    deadline = time.monotonic() + 300
    while len(server.requests) < NEEDED // 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    killed.set()
    assert first.stdout is not None
    first.stdout.close()
    before = len(server.requests)
    assert NEEDED // 2 <= before < NEEDED
    again = judging(server, tmp_path)
    said, _ = again.communicate(timeout=300)
    assert float(said) == 2 * sum(i % 9 + 1 for i in range(QUESTIONS))
    assert NEEDED <= len(server.requests) <= NEEDED + IN_FLIGHT


def test_a_claim_keeps_others_out_until_it_is_given_up_runs_out_or_its_process_dies(tmp_path):
    with ReplyCache(tmp_path / "a.sqlite") as cache, sqlite3.connect(tmp_path / "a.sqlite") as file:
        assert cache.claim(ASK, 60)
        assert cache.claim(ASK, 60), "a process does not keep itself out"
        for host, pid, until, free in [
            ("elsewhere", 1, time.time() + 60, False),
            ("elsewhere", 1, time.time() - 1, True),
            (socket.gethostname(), os.getppid(), time.time() + 60, False),
            (socket.gethostname(), 2**22 + 1, time.time() + 60, True),  # no process has such a number
            (socket.gethostname(), 2**62, time.time() + 60, True),
            (socket.gethostname(), 0, time.time() + 60, True),  # to a signal, these are groups of processes
            (socket.gethostname(), -1, time.time() + 60, True),
            (socket.gethostname(), os.getppid(), time.time() + 1e9, True),  # for years
            ("elsewhere", 1, time.time() + 1e9, True),
            ("elsewhere", 1, float("inf"), True),
            ("elsewhere", 1, "tomorrow", True),
            ("elsewhere", 1, None, True),
            (None, None, time.time() + 60, True),
            (socket.gethostname(), "me", time.time() + 60, True),
            (b"x", b"y", b"z", True),
        ]:
            file.execute("UPDATE claims SET host = ?, pid = ?, until = ? WHERE key = ?", (host, pid, until, ASK.key))
            file.commit()
            assert cache.claim(ASK, 60) is free
            assert cache.claim(Ask("who", "v1", "q", 1, "text"), 60)
        cache.give_up(ASK)
        assert cache.claim(ASK, 60)
    file.close()


def test_what_an_endpoint_will_not_answer_is_known(tmp_path):
    with ReplyCache(tmp_path / "a.sqlite") as cache:
        assert cache.get(ASK, refusals=True) is None
        for reason in ("busy", "filtered"):
            cache.put(ASK, Reply(reason, unanswered=True))
        assert (cache.get(ASK, refusals=True), cache.get(ASK)) == (Reply("filtered", unanswered=True), None)


def test_two_processes_share_what_they_pay_for(server, tmp_path):
    both = [judging(server, tmp_path) for _ in range(2)]
    said = {process.communicate(timeout=300)[0] for process in both}
    assert len(said) == 1
    assert len(server.requests) == NEEDED
    with sqlite3.connect(tmp_path / "judgements.sqlite") as file:
        assert file.execute("SELECT count(*), count(DISTINCT key) FROM replies").fetchone() == (NEEDED, NEEDED)
    file.close()
