"""Numbers of rows as shares of those that can be trained on: `n=10%`, `sizes.seed=5%`."""

import pytest

from diverseevol.cli.checked_options import SelectOptions, schedule_of
from diverseevol.cli.configuration import configure
from diverseevol.cli.naming import arm
from diverseevol.errors import InputError
from diverseevol.options import Schedule, rows_of

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("value", "rows", "number"),
    [
        (7, 100, 7), ("10%", 100, 10), ("100%", 4001, 4001), ("12.5%", 80, 10), ("0.1%", 100, 1), ("50%", 5, 3),
        ("33.3%", 10, 3), ("29%", 100, 29), ("1%", 52_002, 520),
    ],
)  # fmt: skip
def test_a_share_is_rounded_and_at_least_a_row(value, rows, number):
    assert rows_of("n", value, rows) == number


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("0%", "n is 0%; a share of the rows is more than 0% and at most 100%"),
        ("120%", "n is 120%; a share of the rows is more than 0% and at most 100%"),
        ("10 %", "n is '10 %', which is not a whole number of rows or a share of them such as 10%"),
        ("-5%", "n is '-5%', which is not a whole number of rows or a share of them such as 10%"),
        ("ten", "n is 'ten', which is not a whole number of rows or a share of them such as 10%"),
    ],
)
def test_what_is_no_number_of_rows_is_refused_early(value, sentence):
    settings = configure("select", [f"n='{value}'", "out=P.json", "embeddings=E.npy"])
    with pytest.raises(InputError) as error:
        settings.options("", SelectOptions)
    assert str(error.value) == sentence
    with pytest.raises(InputError) as error:
        schedule_of(configure("evolve", [f"sizes.seed='{value}'"]))
    assert str(error.value) == sentence.replace("n is", "schedule.seed_size is", 1)


def test_a_schedule_of_shares_becomes_numbers_in_what_a_run_keeps():
    settings = configure("evolve", ["data=file", "data.path=x", "model=tiny", "sizes.seed=5%", "schedule.step_size=2%"])
    name = arm(settings)
    assert schedule_of(settings).rounds == 10  # before it is known how many rows there are
    assert settings.value("schedule.seed_size") == "5%"
    assert schedule_of(settings, 1000) == Schedule(10, 50, 20)
    assert settings.recorded("schedule") == {"choice": "iterative", "rounds": 10, "seed_size": 50, "step_size": 20}
    assert schedule_of(settings, 1000) == Schedule(10, 50, 20)
    assert arm(settings) == name
    one_time = configure("evolve", ["data=file", "data.path=x", "model=tiny", "schedule=one_time", "sizes.at_once=10%"])
    assert schedule_of(one_time, 200) == Schedule(1, 100, 20)
    with pytest.raises(InputError, match=r"schedule=full trains .* so that schedule\.step_size means nothing"):
        schedule_of(configure("evolve", ["schedule=full", "schedule.step_size=10%"]))
