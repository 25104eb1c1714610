import tarfile
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from judgement_files import authors_file, authors_record, lay, own_file, own_record

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.judges.pairwise import AGAIN
from diverseevol.evaluation.scores.read_judgements import MISPLACED, UNCHECKED, read_judgements


def test_both_orders_of_the_released_scores_are_read_as_model_then_competitor(tmp_path):
    authors_file(tmp_path, authors_record())
    (file,) = read_judgements(tmp_path)
    assert [(j.question_id, j.order, j.model_score, j.competitor_score) for j in file.judgements] == [
        ("1", 0, 4, 8),
        ("1", 1, 5, 7),
    ]
    assert (file.model.source, file.benchmark, file.model.schedule, file.model.seed, file.model.round) == (
        "dolly",
        "vicuna",
        "kc_dolly_x",
        None,
        6,
    )
    assert file.remarks == {}


def test_a_files_place_is_known_however_deep_the_search_begins(tmp_path):
    path = authors_file(tmp_path, authors_record())
    for place in (tmp_path, path.parent.parent, path.parent, path):
        (file,) = read_judgements(place)
        assert (file.benchmark, file.model.schedule, file.model.round) == ("vicuna", "kc_dolly_x", 6)
    path = own_file(tmp_path / "outputs", own_record())
    for place in (tmp_path / "outputs", path.parents[3], path.parent, path):
        (file,) = read_judgements(place)
        assert (file.model.source, file.model.schedule, file.model.seed, file.model.round) == (
            "lab/tiny",
            "kcenter-iterative",
            3,
            2,
        )
        assert file.judgements == (Judgement("a", 0, 3.0, 10.0, "gold", "1", ""),)


def test_a_run_in_a_folder_of_its_own_takes_its_seed_from_the_fingerprint(tmp_path):
    own_file(tmp_path, own_record(), run="mine")
    (file,) = read_judgements(tmp_path)
    assert (file.model.schedule, file.model.seed, file.model.initial_pool) == ("mine", None, None)
    (tmp_path / "mine" / "fingerprint.json").write_text('{"seed": 5}')
    (tmp_path / "mine" / "rounds" / "00").mkdir()
    (tmp_path / "mine" / "rounds" / "00" / "round.json").write_text('{"trained_on": [4, 2]}')
    (file,) = read_judgements(tmp_path)
    assert file.model.seed == 5
    assert file.model.initial_pool is not None
    assert file.model.initial_pool[0] == 2


@pytest.mark.parametrize("suffix", ["tar.xz", "tar.gz", "tar"])
def test_an_archive_reads_as_its_folder_does(tmp_path, suffix):
    authors_file(tmp_path / "in", authors_record())
    own_file(tmp_path / "in", own_record())
    archive = tmp_path / f"all.{suffix}"
    with tarfile.open(archive, f"w:{suffix[4:]}") as tar:
        tar.add(tmp_path / "in", arcname=".")

    def content(place: Path) -> list[tuple[Any, ...]]:
        return sorted((f.benchmark, astuple(f.model), f.judgements) for f in read_judgements(place))

    assert content(archive) == content(tmp_path / "in")
    (tmp_path / "around").mkdir()
    archive.rename(tmp_path / "around" / archive.name)
    assert content(tmp_path / "around") == content(tmp_path / "in")


def test_one_file_at_a_time_is_read(tmp_path):
    authors_file(tmp_path, authors_record())
    lay(tmp_path / "vicuna_test" / "z_dolly" / "rd_0_vs_chat.jsonl", [])
    files = read_judgements(tmp_path)
    assert next(files).model.schedule == "kc_dolly_x"  # the empty file behind it is not yet opened
    with pytest.raises(InputError, match="empty"):
        next(files)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"eval_QUERY1": [7.0, 5.0]},
            "eval_QUERY1 records [7.0, 5.0] as [model, competitor] but the reply begins with '7 5'",
        ),
        ({"eval_QUERY0": [4.5, 8.0]}, "eval_QUERY0 records [4.5, 8.0]"),
        ({"eval_QUERY0": [11.0, 8.0]}, "expected a score from 0 to 10, got 11.0"),
        ({"eval_QUERY0": [-1.0, 8.0]}, "expected a score from 0 to 10, got -1.0"),
        ({"eval_QUERY0": [True, 8.0]}, "expected a score from 0 to 10, got True"),
        ({"eval_QUERY0": ["4", 8.0]}, "expected a score from 0 to 10, got '4'"),
        ({"eval_QUERY0": [4.0]}, "expected two scores, got [4.0]"),
        ({"assistant2_QUERY1": "gpt/x"}, "not one pair in both orders"),
    ],
)
def test_a_released_record_that_contradicts_itself_is_refused_by_place(tmp_path, changes, complaint):
    authors_file(tmp_path, authors_record(1), authors_record(2, **changes))
    with pytest.raises(InputError) as caught:
        list(read_judgements(tmp_path))
    assert complaint in str(caught.value)
    assert "rd_6_vs_chat.jsonl, line 2" in str(caught.value)


@pytest.mark.parametrize("lost", ["question_id", "eval_QUERY1", "response_QUERY0", "assistant1_QUERY0"])
def test_a_released_record_without_a_field_is_refused(tmp_path, lost):
    record = authors_record()
    del record[lost]
    authors_file(tmp_path, record)
    with pytest.raises(InputError, match=f"line 1, field '{lost}': missing"):
        list(read_judgements(tmp_path))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_score": 10.5}, "expected a score from 0 to 10, got 10.5"),
        ({"model_score": None}, "field 'model_score': None"),
        ({"order": "0"}, "field 'order': '0'"),
        ({"question_id": 4}, "field 'question_id': 4"),
    ],
)
def test_an_own_record_of_the_wrong_kind_is_refused_by_place(tmp_path, changes, complaint):
    own_file(tmp_path, own_record("a"), own_record("b", **changes))
    with pytest.raises(InputError) as caught:
        list(read_judgements(tmp_path))
    assert complaint in str(caught.value)
    assert "lab.jsonl, line 2" in str(caught.value)


def test_scores_that_cannot_be_checked_against_the_reply_are_counted(tmp_path):
    authors_file(tmp_path, authors_record(1, response_QUERY0="Four and eight."), authors_record(2), authors_record(3))
    (file,) = read_judgements(tmp_path)
    assert file.remarks == {UNCHECKED: 1}


def test_judgements_of_another_model_than_the_path_says_are_counted(tmp_path):
    authors_file(tmp_path, authors_record(1), authors_record(2, model="rand_dolly_x/rd_6"))
    (file,) = read_judgements(tmp_path)
    assert file.remarks == {MISPLACED: 1}


def cut_json(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def list_json(path: Path) -> None:
    path.write_text("[1]\n")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_json, "line 1: not valid JSON"),
        (list_json, "line 1: expected a JSON object, got a list"),
        (Path.unlink, "holds no judgements"),
    ],
)
def test_a_damaged_or_missing_file_is_a_sentence(tmp_path, damage: Callable[[Path], None], complaint):
    damage(authors_file(tmp_path, authors_record()))
    with pytest.raises(InputError, match=complaint):
        list(read_judgements(tmp_path))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_cut_archive_is_a_sentence(tmp_path, keep):
    authors_file(tmp_path / "in", *(authors_record(i) for i in range(200)))
    archive = tmp_path / "all.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(tmp_path / "in", arcname=".")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match="cannot be read to its end"):
        list(read_judgements(archive))


def test_a_place_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        list(read_judgements(tmp_path / "absent"))


PAIR = {"prompt_version": "pair-1a2b3c4d", "judge": "gpt-4", "model_score": 9.0, "competitor_score": 2.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": "2 9\nbad"}, "'2 9' for model, competitor"),
        ({"reason": "9 2\nbad", "order": 1}, "'9 2' for competitor, model"),
        ({"reason": f"Well.{AGAIN}2 9"}, "'2 9'"),
        ({"reason": f"9 2 or so{AGAIN}8 2\n\n9 2"}, "'8 2'"),
        ({"reason": "Well.\n\n2 9"}, "'2 9'"),  # as it was recorded before
        ({"reason": "9 2", "model_score": None, "competitor_score": None}, "[None, None]"),
        ({"reason": "2 9", "prompt_version": "released"}, "'2 9'"),
        ({"reason": "Assistant 1: 2, Assistant 2: 9"}, "'2 9'"),
        ({"reason": "Assistant 2: 2\nAssistant 1: 9", "order": 1}, "'9 2'"),
    ],
)
def test_an_own_judgement_that_contradicts_its_reply_is_refused_by_place(tmp_path, changes, said):
    own_file(tmp_path, own_record("a"), own_record("b", **(PAIR | changes)))
    with pytest.raises(InputError, match="but the reply begins with") as caught:
        list(read_judgements(tmp_path))
    assert said in str(caught.value)
    assert "lab.jsonl, line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "unchecked"),
    [
        ({"reason": "9 2\nGood."}, 0),
        ({"reason": "2, 9", "order": 1}, 0),
        ({"reason": f"2 9 or so{AGAIN}9 2\n\n2 9"}, 0),
        ({"reason": "Well.\n\nNow 3 4.\n\n9 2\nSo."}, 0),  # as it was recorded before
        ({"reason": f"Well.{AGAIN}Well.", "model_score": None, "competitor_score": None}, 0),
        ({"reason": f"**Hm.**{AGAIN}Assistant 2: 2, Assistant 1: 9"}, 0),
        ({"reason": "<think>2 9</think>\n9/10 2/10"}, 0),
        # As 0.1 recorded what it did not read.
        ({"reason": f"9/10 2/10{AGAIN}9/10 2/10", "model_score": None, "competitor_score": None}, 0),
        ({"reason": ""}, 1),
        ({"reason": "The first."}, 1),
        ({"reason": "2 9", "prompt_version": "words-lcs-1"}, 0),
    ],
)
def test_own_judgements_that_cannot_be_held_against_their_reply_are_counted(tmp_path, changes, unchecked):
    own_file(tmp_path, own_record("b", **(PAIR | changes)))
    (file,) = read_judgements(tmp_path)
    assert file.remarks == ({UNCHECKED: 1} if unchecked else {})


def test_how_many_rows_a_model_was_trained_on_is_read_where_it_is_known(tmp_path):
    path = own_file(tmp_path, own_record())
    assert next(read_judgements(tmp_path)).model.rows is None
    (path.parents[1] / "round.json").write_text('{"trained_on": [4, 2, 7]}')
    assert next(read_judgements(tmp_path)).model.rows == 3
