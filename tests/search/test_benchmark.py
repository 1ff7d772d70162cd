"""The comparison of algorithms runs, and its table says what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import search_tables

ROOT = Path(__file__).parents[2]


def run(output, *flags):
    command = [sys.executable, "-m", "benchmarks.search", "--output", output, *flags]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True)
    return json.loads(output.read_text()), done.stdout.splitlines()


def test_a_small_comparison(tmp_path):
    output = tmp_path / "results" / "search.json"
    flags = ["--seeds", "2", "--trials", "20", "--problems", "jets_synthetic_limited,digits"]
    content, lines = run(output, *flags, "--algorithms", "random,portfolio")
    assert list(content) == ["jets_synthetic_limited", "digits"]
    for name, part in content.items():
        assert [(row["problem"], row["method"]) for row in part["table"]] == [(name, "portfolio"), (name, "random")]
        assert all(row["trials"] == [20] and 0 <= row["mean"][0] <= 1 for row in part["table"])
        assert 0 <= part["table"][1]["wins"][0] <= 2
    assert len(lines) == 6


@pytest.mark.parametrize("name", sorted(search_tables.SOURCES))
def test_a_table_is_whole_small_and_of_the_space_that_its_builder_trains(name):
    table = search_tables.read(name)
    assert len(table.errors) == len(table.choices) == table.space.size() >= 2000
    assert table.errors.shape[1] == len(table.fidelities)
    assert (search_tables.FOLDER / f"{name}.npz").stat().st_size < 2_000_000
    errors = table.errors[:, -1]
    assert 0 < np.nanmin(errors) < np.nanmedian(errors) < np.nanmedian(table.errors[:, 0])  # training helps


def test_an_unfinished_table_is_refused_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(search_tables, "SAVED_EVERY", 2)
    path = search_tables.build("digits", tmp_path, most=3)
    with pytest.raises(ValueError, match="is of another space or unfinished"):
        search_tables.read("digits", tmp_path)
    search_tables.build("digits", tmp_path, most=1)
    with np.load(path) as content:
        errors = content["errors"]
    np.testing.assert_allclose(errors, search_tables.read("digits").errors[:4], atol=0.1)  # processors round otherwise
