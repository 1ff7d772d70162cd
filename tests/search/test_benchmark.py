"""The comparison of algorithms runs, and its table says what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_small_comparison(tmp_path):
    output = tmp_path / "results" / "search.json"
    command = [sys.executable, "benchmarks/search.py", "--seeds", "2", "--trials", "20", "--output", output]
    command += ["--problems", "jets_limited,dtlz2", "--algorithms", "random,portfolio"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    table = json.loads(output.read_text())["table"]
    assert [(row["problem"], row["method"]) for row in table] == [
        (problem, method) for problem in ("jets_limited", "dtlz2") for method in ("random", "portfolio")
    ]
    assert all(row["trials"] == [20] and 0 <= row["mean"][0] < 1 and row["std"][0] >= 0 for row in table)
    assert len(done.stdout.splitlines()) == 5
