import pytest
from chat_server import Answer, by_length, fails, says

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.budget import OPENAI, PRICES, Account, LimitReachedError, Price, price_of
from diverseevol.evaluation.judges.reply_cache import Reply
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question

BENCHMARK = Benchmark("mine", tuple(Question(str(i), f"What is {i}?", competitor="y" * 6) for i in range(6)))
ANSWERS = {str(i): "xxx" for i in range(6)}
SHEET = AnswerSheet(BENCHMARK, ANSWERS)
NEEDED = 12


def test_a_snapshot_costs_what_its_family_does_and_what_is_not_listed_is_not_known():
    assert price_of("gpt-4-0613", OPENAI, None) == Price(*PRICES["gpt-4"])
    assert price_of("gpt-4o-mini-2024-07-18", OPENAI + "/", None) == Price(*PRICES["gpt-4o-mini"])
    for model in ("gpt-4-32k", "gpt-4.5-preview", "gpt-5", "llama-3"):
        assert price_of(model, OPENAI, None) is None
    assert price_of("gpt-4", "http://localhost:8000/v1", None) is None
    assert price_of("gpt-4", "http://localhost:8000/v1", [0, 1]) == Price(0.0, 1.0)


def test_a_price_is_per_million_tokens():
    assert Price(30.0, 60.0).of(1_000_000, 500_000) == 60


def test_an_account_counts_tokens_and_dollars_and_what_it_cannot_know_as_the_most():
    account = Account(Price(10.0, 20.0), max_tokens=100)
    most = account.most("x" * 84)  # 84 bytes and the frame's 16: a hundred tokens at most
    assert most == pytest.approx((10 * 100 + 20 * 100) / 1e6)
    for reply, billed, spent in [
        (Reply("8 7", None, 30, 5), True, (300 + 100) / 1e6),
        (None, True, most),  # cut off: it may have been billed
        (None, False, 0.0),  # refused
        (Reply("8 7"), True, most),  # an endpoint that does not count
    ]:
        before = account.spent
        account.begin(most)
        assert account.held == pytest.approx(most)
        account.end(most, reply, billed=billed)
        assert account.spent - before == pytest.approx(spent)
    assert (account.calls, account.in_flight, account.held) == (4, 0, pytest.approx(0))
    assert (account.prompt_tokens, account.completion_tokens) == (30, 5)


@pytest.mark.parametrize("limit", [0, 1, 5, NEEDED - 1])
def test_the_limit_of_calls_is_reached_and_never_passed(server, make, limit):
    with pytest.raises(LimitReachedError, match=rf"judge\.max_calls={limit} .* {NEEDED - limit} remain"):
        make(max_calls=limit, concurrency=4).judge(SHEET)
    assert len(server.requests) == limit
    make(max_calls=NEEDED - limit).judge(SHEET)
    assert len(server.requests) == NEEDED


def test_retries_count_as_calls(server, make):
    server.behaviour = lambda request: fails(500)
    with pytest.raises(LimitReachedError, match=r"judge\.max_calls=3"):
        make(max_calls=3, concurrency=1).judge(SHEET)
    assert len(server.requests) == 3


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_is_used_as_far_as_it_goes_and_never_passed(server, make, concurrency):
    """A reply costs $0.01 here, and could cost some seven times as much as long as it is not there."""
    server.behaviour = lambda request: Answer(body=by_length(request).body, delay=0.02)
    judge = make(budget_usd=0.1, price=[90.0, 100.0], concurrency=concurrency, max_tokens=16)
    most = judge.account.most(judge.wording.template)
    assert 0.05 < most < 0.1
    with pytest.raises(LimitReachedError, match=r"judge\.budget_usd=0\.1 .* remain, about \$"):
        judge.judge(SHEET)
    assert judge.account.spent == pytest.approx(0.01 * len(server.requests))
    assert 0.1 - 1.1 * most < judge.account.spent <= 0.1


def test_a_budget_below_a_single_call_sends_none(server, make):
    with pytest.raises(LimitReachedError, match="12 remain"):
        make(budget_usd=0.001, price=[90.0, 100.0]).judge(SHEET)
    assert server.requests == []


def test_a_call_that_was_cut_off_counts_against_the_budget(server, make):
    server.behaviour = lambda request: Answer(body=says("8 7").body, cut=True)
    judge = make(budget_usd=0.5, price=[90.0, 100.0], concurrency=4, max_tokens=16)
    with pytest.raises(LimitReachedError):
        judge.judge(SHEET)
    most = judge.account.most(server.requests[0].body["messages"][0]["content"])
    assert judge.account.spent == pytest.approx(most * len(server.requests), rel=0.01)
    assert judge.account.spent <= 0.5


def test_the_estimate_says_what_is_missing_and_calls_nobody(server, make):
    judge = make(price=[1.0, 2.0], max_calls=0)
    before = judge.estimate(SHEET)
    assert (before.judgements, before.missing) == (NEEDED, NEEDED)
    assert before.dollars is not None
    assert 0 < before.dollars < NEEDED * judge.account.most(judge.wording.template + "x" * 100)
    assert server.requests == []
    make().judge(AnswerSheet(Benchmark("mine", BENCHMARK.questions[:2]), ANSWERS))
    after = judge.estimate(SHEET)
    assert (after.judgements, after.missing) == (NEEDED, NEEDED - 4)
    assert after.dollars == pytest.approx(before.dollars * 8 / 12, rel=0.01)
    assert make().estimate(SHEET).dollars is None


def test_a_planning_run_needs_no_key(make, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert make(max_calls=0).estimate(SHEET).missing == NEEDED
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        make()
