"""Lines that are only ever appended; a crash may cut the last one off anywhere."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.core.errors import DataError, InvalidValueError
from codesign.search.journal import Journal

EVENTS = st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=5)


@given(events=EVENTS, data=st.data())
def test_a_file_cut_anywhere_keeps_every_complete_line_and_goes_on(tmp_path_factory, events, data):
    path = tmp_path_factory.mktemp("journal") / "new folder" / "journal.jsonl"
    with Journal(path) as journal:
        assert journal.events == []
        for event in events:
            journal.write(event)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    complete = content[:cut].count(b"\n")
    with Journal(path) as journal:
        assert journal.events == events[:complete]
        journal.write({"after": 1}, is_durable=False)
    with Journal(path) as journal:
        assert journal.events == [*events[:complete], {"after": 1}]


def test_one_study_at_a_time(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path):
        with pytest.raises(InvalidValueError) as caught:
            Journal(path)
        assert str(caught.value) == (
            f"Journal {path} belongs to a study that is running; wait for its end, or stop it first."
        )
    with Journal(path):
        pass


def test_a_broken_line_before_the_last_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 2}\n')
    for _ in range(2):  # the lock is not kept by the failed attempt
        with pytest.raises(DataError) as caught:
            Journal(path)
        assert str(caught.value) == f"Line 2 of journal {path} is not JSON; restore the file or remove it."


def test_what_cannot_be_read_again_is_not_written(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal, pytest.raises(ValueError, match="Out of range float values"):
        journal.write({"metric": float("nan")})
    assert [json.loads(line) for line in path.read_text().splitlines()] == []
