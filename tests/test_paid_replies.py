"""What an endpoint sends back, however odd: a reply that may have been paid for is never lost and never paid twice."""

import json
import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_server import Answer, Request, by_length, letters, says

from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.bodies import read_json
from diverseevol.evaluation.judges import reply_cache
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache, encodable
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question

QUESTIONS = 3
NEEDED = 2 * QUESTIONS
SHEET = letters(QUESTIONS)
BENCHMARK, ANSWERS = SHEET.benchmark, SHEET.answers
ASK = Ask("who", "v1", "q", 0, "text")


def body_of(text: str, **changes: Any) -> str:
    """A completion as JSON, its text as it is to stand there between quotes."""
    return json.dumps(says("TEXT", **changes).body).replace("TEXT", text)


DEEP = "[" * 100_000 + "]" * 100_000
USAGE = '{"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}'
READABLE: dict[str, bytes] = {
    "half a surrogate pair": body_of(r"8 7\nGood \ud83d").encode(),
    "the other half": body_of(r"8 7\n\ude00 good").encode(),
    "halves the wrong way round": body_of(r"8 7\n\ude00\ud83d").encode(),
    "half a pair in the model's name": body_of(r"8 7\n!", model="gpt-4-\ud83d").encode(),
    "NUL": body_of(r"8 7\n\u0000").encode(),
    "escape sequences": body_of(r"8 7\n\u001b[31m").encode(),
    "bytes that are no UTF-8": body_of("8 7\\nGÜT").encode("latin-1"),
    "UTF-16": body_of("8 7\\nGüt").encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + body_of("8 7\\ngood").encode(),
    "deeply nested beside": body_of("8 7\\ngood", system_fingerprint="DEEP").replace('"DEEP"', DEEP).encode(),
    "deeply nested usage": body_of("8 7\\ngood", usage="DEEP").replace('"DEEP"', DEEP).encode(),
    "brackets in the text": body_of("8 7\\n" + "[{" * 50_000).replace('"stop"', DEEP).encode(),
    "model is a number": body_of("8 7\\ngood", model=4).encode(),
    "model is a list": body_of("8 7\\ngood", model=["gpt-4"]).encode(),
    "model is null": body_of("8 7\\ngood", model=None).encode(),
    "odd reasons to finish": body_of("8 7\\ngood").replace('"stop"', '{"a": [1]}').encode(),
    "parts with null": body_of("TEXT").replace('"TEXT"', '[{"type": "text", "text": "8 7"}, null]').encode(),
    "choices hold more": body_of("8 7\\ngood", created="yesterday", id=None).encode(),
    "a number of 5,000 digits": body_of("8 7\\ngood", created="MANY").replace('"MANY"', "9" * 5000).encode(),
}


@pytest.mark.parametrize("body", READABLE.values(), ids=list(READABLE))
def test_an_odd_reply_is_kept_read_and_never_paid_again(server, make, body):
    server.behaviour = lambda request: Answer(body=body)
    judgements = make().judge(SHEET)
    assert all((j.model_score, j.competitor_score) == ((8, 7), (7, 8))[j.order] for j in judgements)
    assert len(server.requests) == NEEDED
    assert make(max_calls=0).judge(SHEET) == judgements
    json.dumps([j.reason for j in judgements], ensure_ascii=False).encode()  # as the files of judgements have it


USAGES: dict[str, str] = {
    "missing": "null",
    "a list": "[]",
    "empty": "{}",
    "one of two": '{"prompt_tokens": 100}',
    "10^30": '{"prompt_tokens": 1' + "0" * 30 + ', "completion_tokens": 1' + "0" * 30 + "}",
    "10^5000": '{"prompt_tokens": 1' + "0" * 5000 + ', "completion_tokens": 10}',
    "2^63": '{"prompt_tokens": 9223372036854775808, "completion_tokens": 10}',
    "a billion": '{"prompt_tokens": 100, "completion_tokens": 1000000000}',
    "negative": '{"prompt_tokens": -100, "completion_tokens": 10}',
    "both negative": '{"prompt_tokens": -1000000000, "completion_tokens": -1000000000}',
    "fraction": '{"prompt_tokens": 100.5, "completion_tokens": 10}',
    "not a number": '{"prompt_tokens": NaN, "completion_tokens": 10}',
    "infinite": '{"prompt_tokens": Infinity, "completion_tokens": -Infinity}',
    "1e999": '{"prompt_tokens": 1e999, "completion_tokens": 10}',
    "text": '{"prompt_tokens": "100", "completion_tokens": "10"}',
    "true": '{"prompt_tokens": true, "completion_tokens": true}',
    "null": '{"prompt_tokens": null, "completion_tokens": 10}',
    "lists": '{"prompt_tokens": [100], "completion_tokens": {"n": 10}}',
}


@pytest.mark.parametrize("usage", USAGES.values(), ids=list(USAGES))
def test_a_usage_that_cannot_be_right_is_charged_at_the_most_and_said_once(server, make, caplog, tmp_path, usage):
    def behaviour(request: Request) -> Answer:
        return Answer(body=json.dumps(by_length(request).body).replace(USAGE, usage).encode())

    server.behaviour = behaviour
    judge = make(price=[90.0, 100.0], budget_usd=50)
    judgements = judge.judge(SHEET)
    assert all(j.parsed for j in judgements)
    most = sum(judge.account.most(r.body["messages"][0]["content"]) for r in server.requests)
    assert judge.account.spent == pytest.approx(most)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "token counts that can be right" in warning
    assert make(max_calls=0).judge(SHEET) == judgements
    with closing(sqlite3.connect(tmp_path / "judgements.sqlite")) as file:
        kept = file.execute("SELECT typeof(prompt_tokens), typeof(completion_tokens) FROM replies").fetchall()
    assert {kind for row in kept for kind in row} <= {"integer", "null"}


@pytest.mark.parametrize("usage", ["both negative", "10^30", "missing"])
def test_no_usage_unbinds_the_budget(server, make, usage):
    server.behaviour = lambda request: Answer(
        body=json.dumps(by_length(request).body).replace(USAGE, USAGES[usage]).encode()
    )
    judge = make(price=[90.0, 100.0], budget_usd=0.2, max_tokens=16)
    with pytest.raises(InputError, match=r"judge\.budget_usd=0\.2 .* remain"):
        judge.judge(SHEET)
    assert 0 < judge.account.spent <= 0.2
    assert len(server.requests) == 2


def test_whole_numbers_with_a_point_and_thoughts_beyond_the_limit_are_charged_as_they_are(server, make):
    server.behaviour = lambda request: says("8 7", usage={"prompt_tokens": 100.0, "completion_tokens": 30_000})
    judge = make(price=[1.0, 2.0])
    judge.judge(SHEET)
    assert judge.account.spent == pytest.approx(NEEDED * (100 + 60_000) / 1e6)


WHOLE = ("deeply nested text", "text is a number", "a part of no kind")
UNUSABLE: dict[str, bytes] = {
    "null bytes": bytes(1000),
    "nothing": b"",
    "deeply nested": DEEP.encode(),
    "deeply nested and open": b'{"choices": ' + b"[" * 100_000,
    "deeply nested choices": b'{"choices": [{"message": ' + DEEP.encode() + b"}]}",
    "deeply nested text": body_of("TEXT").replace('"TEXT"', DEEP).encode(),
    "binary": bytes(range(256)),
    "a number": b"1" * 5000,
    "a string": b'"8 7"',
    "true": b"true",
    "no choices": b'{"id": "1", "object": "chat.completion", "model": "gpt-4"}',
    "choice is null": b'{"choices": [null]}',
    "text is a number": body_of("TEXT").replace('"TEXT"', "87").encode(),
    "HTML": b"<html>\x1b[31mlogin</html>",
    "a part of no kind": body_of("TEXT").replace('"TEXT"', '[{"type": ["text"], "text": "8 7"}]').encode(),
}


@pytest.mark.parametrize("name", list(UNUSABLE))
def test_a_body_that_cannot_be_used_is_recorded_as_that_prompts_and_is_not_paid_again(server, make, name):
    answer = Answer(body=UNUSABLE[name])
    server.behaviour = lambda request: answer if "What is 1?" in str(request.body) else by_length(request)
    judgements = make(retries=1).judge(SHEET)
    assert [j.question_id for j in judgements if not j.parsed] == ["1", "1"]
    assert all("the reply" in j.reason for j in judgements if not j.parsed)
    # A whole reply that holds something else than text is not asked for again; what may have been cut off is.
    assert len(server.requests) == NEEDED + (0 if name in WHOLE else 2)
    assert make(max_calls=0).judge(SHEET) == judgements


@pytest.mark.parametrize("name", ["null bytes", "deeply nested", "HTML"])
def test_where_no_reply_can_be_used_the_run_ends_and_nothing_is_recorded(server, make, name):
    server.behaviour = lambda request: Answer(body=UNUSABLE[name])
    with pytest.raises(ConnectionError, match=r"the reply is .*requests sent: 2") as caught:
        make(retries=1, concurrency=2).judge(SHEET)
    assert str(caught.value).isprintable()
    server.behaviour = by_length
    assert all(j.parsed for j in make().judge(SHEET))


def test_halves_of_surrogate_pairs_in_questions_and_answers_are_asked_about_and_kept(server, make):
    benchmark = Benchmark("mine", (Question("id \ud83d", "What \ude00?", competitor="y\ud83d"),))
    judgements = make().judge(AnswerSheet(benchmark, {"id \ud83d": "x\ud83d"}))
    assert all(j.parsed for j in judgements)
    assert "�" in server.requests[0].body["messages"][0]["content"]
    assert make(max_calls=0).judge(AnswerSheet(benchmark, {"id \ud83d": "x\ud83d"})) == judgements


def test_of_a_reply_without_end_no_more_is_quoted_than_tells(server, make):
    server.behaviour = lambda request: says("7 3") if request.again else says("well " * 100_000)
    judge = make()
    assert all(j.parsed for j in judge.judge(SHEET))
    longest = max(len(request.body["messages"][0]["content"]) for request in server.requests)
    assert 20_000 < longest < 25_000


def test_what_can_be_encoded_stays_as_it_is():
    assert encodable("aé😀\0\n") == "aé😀\0\n"
    assert encodable("\ud83d\ude00 \ud83d! \ude00") == "😀 �! �"


def test_json_is_read_to_a_hundred_levels_and_what_lies_deeper_is_null():
    assert read_json('{"a": ' + DEEP + ', "b": "]", "c": [1, "\\"["]}')["b"] == "]"
    assert read_json('{"a": ' + DEEP + ', "c": [1, "\\"["]}')["c"] == [1, '"[']
    value = read_json(DEEP)
    for _ in range(99):
        (value,) = value
    assert value is None
    for text in (DEEP[:-1], DEEP + "]", "[" * 10**5, '["' * 10**5):
        with pytest.raises(ValueError, match=r"."):
            read_json(text)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ReplyCache]:
    with ReplyCache(tmp_path / "a.sqlite") as cache:
        cache.put(ASK, Reply("8 7", "gpt-4", 1, 1))
        yield cache


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE replies SET text = x'ff00'", "text is binary"),
        ("UPDATE replies SET text = CAST(x'ff00' AS TEXT)", "cannot be used"),
        ("UPDATE replies SET model = x'ff00'", "model and tokens are binary"),
        ("UPDATE replies SET prompt_tokens = 'many'", "model and tokens are a text, a text"),
        ("UPDATE replies SET completion_tokens = 1.5", "a number with a fraction"),
        ("ALTER TABLE replies DROP COLUMN text", "holds other tables than expected"),
        ("DROP TABLE replies", "holds other tables than expected"),
    ],
)
def test_a_damaged_row_is_refused_with_the_file(kept, tmp_path, change, complaint):
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as file:
        file.execute(change)
        file.commit()
    with pytest.raises(InputError, match=rf"a\.sqlite: the file of judges' replies .*{complaint}.*judge\.cache=FOLDER"):
        kept.get(ASK)


def test_a_damaged_refusal_is_refused_with_the_file(kept, tmp_path):
    refused = Ask("who", "v1", "q", 1, "text")
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as file:
        file.execute("INSERT INTO unanswered VALUES (?, x'ff', 0)", (refused.key,))
        file.commit()
    with pytest.raises(InputError, match=r"a\.sqlite: .*table unanswered.*reason is binary"):
        kept.get(refused, refusals=True)


def test_a_locked_file_is_said_to_be_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(reply_cache, "WAIT_SECONDS", 0.1)
    with ReplyCache(tmp_path / "a.sqlite") as cache, closing(sqlite3.connect(tmp_path / "a.sqlite")) as file:
        file.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"a\.sqlite: .*locked by another process .*end that process") as caught:
            cache.put(ASK, Reply("8 7"))
        assert "room" not in str(caught.value)
        with pytest.raises(InputError, match="locked by another process"):
            ReplyCache(tmp_path / "a.sqlite")


class HeardError(Exception):
    pass


@contextmanager
def interrupted_by_alarm() -> Iterator[None]:
    """The alarm signal interrupts what runs inside."""

    def hear(*arguments: object) -> None:
        raise HeardError

    before = signal.signal(signal.SIGALRM, hear)
    try:
        with pytest.raises(HeardError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_is_heard_while_a_locked_file_is_waited_for(tmp_path):
    with ReplyCache(tmp_path / "a.sqlite") as cache, closing(sqlite3.connect(tmp_path / "a.sqlite")) as file:
        file.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        with interrupted_by_alarm():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            cache.get(ASK)
    assert time.monotonic() - begun < 10  # of the minute that is waited


def test_a_signal_ends_judging_at_once_and_what_came_before_is_known(server, make):
    def behaviour(request: Request) -> Answer:
        if len(server.requests) <= 2:
            return by_length(request)
        if len(server.requests) == 4:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        return Answer(body=by_length(request).body, delay=30)

    server.behaviour = behaviour
    judge = make(concurrency=2)
    begun = time.monotonic()
    with interrupted_by_alarm():
        judge.judge(SHEET)
    assert time.monotonic() - begun < 25
    assert (len(server.requests), judge.account.in_flight) == (4, 0)
    server.behaviour = by_length
    assert all(j.parsed for j in make().judge(SHEET))
    assert len(server.requests) == 4 + NEEDED - 2


def test_a_file_that_is_free_again_is_used(tmp_path):
    with (
        ReplyCache(tmp_path / "a.sqlite") as cache,
        closing(sqlite3.connect(tmp_path / "a.sqlite", check_same_thread=False)) as file,
    ):
        file.execute("BEGIN EXCLUSIVE")
        freed = threading.Timer(0.7, file.rollback)
        freed.start()
        cache.put(ASK, Reply("8 7"))
        freed.join()
        assert cache.get(ASK) == Reply("8 7")


def test_a_file_that_is_read_only_is_said_to_be(kept):
    kept._file.execute("PRAGMA query_only=ON")
    with pytest.raises(InputError, match=r"a\.sqlite: .*cannot be opened or written .*make it and its folder writable"):
        kept.put(Ask("who", "v1", "q", 1, ""), Reply("8 7"))


def test_a_file_without_room_is_said_to_be(kept):
    kept._file.execute(f"PRAGMA max_page_count={kept._file.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(InputError, match=r"a\.sqlite: .*does not fit on its disk .*make room"):
        kept.put(Ask("who", "v1", "q", 1, ""), Reply("8 7" * 10_000))


def test_a_folder_or_a_cut_file_in_its_place_is_said_so(tmp_path):
    (tmp_path / "a.sqlite").mkdir()
    with pytest.raises(InputError, match=r"a\.sqlite: .*cannot be opened or written"):
        ReplyCache(tmp_path / "a.sqlite")
    with ReplyCache(tmp_path / "b.sqlite") as cache:
        for i in range(200):
            cache.put(Ask("who", "v1", "q", i, ""), Reply("8 7" * 100))
    whole = (tmp_path / "b.sqlite").read_bytes()
    (tmp_path / "b.sqlite").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"b\.sqlite: .*is damaged"):
        read_all(tmp_path / "b.sqlite")


def read_all(path: Path) -> None:
    with ReplyCache(path) as cache:
        for i in range(200):
            cache.get(Ask("who", "v1", "q", i, ""))
