"""The project holds together: parameters, pins, layers, style and start-up time."""

import dataclasses
import importlib
import os
import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest
import yaml

import codesign
from codesign.stages.options import parse

ROOT = Path(__file__).parents[1]
STAGES = {
    "main": "Main",
    "global_search": "GlobalSearch",
    "local_compress": "LocalCompress",
    "synthesize": "Synthesize",
}
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACT = {"task", "trials", "epochs", "seed", "workers", "resume", "from_run", "board", "clock_ns"}


def options_of(stage):
    return getattr(importlib.import_module(f"codesign.stages.{stage}"), STAGES[stage])


def run(*command, **options):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_the_entry_points_are_the_stages():
    assert set(PROJECT["entry_points"]) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_of_mlproject_are_the_options_of_the_stage(stage):
    cls, entry = options_of(stage), PROJECT["entry_points"][stage]
    kinds = typing.get_type_hints(cls)
    expected = {
        f.name: {"type": "string" if kinds[f.name] is str else "float", "default": f.default}
        for f in dataclasses.fields(cls)
    }
    assert entry["parameters"] == expected
    flags = dict(re.findall(r"--(\w+) \{(\w+)\}", entry["command"]))
    assert flags == {name: name for name in expected}


@pytest.mark.parametrize("stage", STAGES)
def test_the_defaults_survive_the_way_through_mlproject(stage):
    cls, entry = options_of(stage), PROJECT["entry_points"][stage]
    arguments = [word for name, p in entry["parameters"].items() for word in (f"--{name}", str(p["default"]))]
    assert parse(cls, arguments) == cls()


def test_every_name_of_the_contract_exists():
    assert set().union(*(entry["parameters"] for entry in PROJECT["entry_points"].values())) >= CONTRACT


def test_conda_and_lock_agree_with_pyproject():
    project = PYPROJECT["project"]
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert conda[-1]["pip"] == project["dependencies"]
    lock = set((ROOT / "requirements.txt").read_text().split())
    pins = project["dependencies"] + project["optional-dependencies"]["test"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert [pin for pin in pins if pin not in lock] == []


def test_public_names_resolve():
    assert all(getattr(codesign, name).__name__ == name for name in codesign.__all__)
    assert set(codesign.__all__) == set(codesign._HOME)
    with pytest.raises(AttributeError, match="module 'codesign' has no attribute 'Tsak'"):
        _ = codesign.Tsak


@pytest.mark.parametrize(
    "check",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]],
    ids=["ruff", "format", "mypy", "imports"],
)
def test_style_and_layers(check):
    result = run(str(Path(sys.executable).parent / check[0]), *check[1:])
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "limit_s"),
    [("deploy", 0.3), ("codesign.stages.global_search", 1.0), ("codesign.stages.main", 1.0)],
)
def test_help_is_quick(module, limit_s):
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    seconds = []
    for _ in range(3):
        start = _seconds_of_children()
        assert run(sys.executable, "-m", module, "--help", env=environment).returncode == 0
        seconds.append(_seconds_of_children() - start)
    heavy = run(sys.executable, "-X", "importtime", "-m", module, "--help").stderr
    assert not re.search(r"\| +(torch|mlflow|hls4ml|da4ml|brevitas|sklearn)$", heavy, re.MULTILINE)
    assert min(seconds) < 3 * limit_s  # a loaded machine is slow; what matters is what is imported


def _seconds_of_children():
    """Return processor seconds, which depend less than the clock's on what else the machine does."""
    times = os.times()
    return times.children_user + times.children_system


def test_no_file_holds_a_machine_path():
    tracked = run("git", "ls-files").stdout.split()
    pattern = re.compile(r"/(home|root|work|opt)/\w")
    ours = [p for p in tracked if Path(p).parts[0] != "mlflow"]  # the server's paths are those of its container
    texts = [p for p in ours if Path(p).suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".sh", ""}]
    assert [p for p in texts if (ROOT / p).is_file() and pattern.search((ROOT / p).read_text())] == []
