"""The contract of every task: a new folder in projects is tested here without a new test."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign import network, train
from codesign.autograd import LOSSES
from codesign.compress.lower import lower, require_agreement
from codesign.compress.quantize import quantize
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, UnknownNameError
from codesign.core.layers import require_buildable
from codesign.core.task import Data, Task
from codesign.jobs.evaluate import hardware_metrics

TASKS = plugins.task_names()
GUIDE = plugins.PROJECTS.parent / "docs" / "add-a-task.md"


def options_of(name):
    make = plugins.load_sibling(plugins.PROJECTS / name / "task.py", "task").task
    names = make.__code__.co_varnames[: make.__code__.co_argcount]
    return dict(zip(names, make.__defaults__ or (), strict=True))


def fillings(task, count=200):
    """Random architectures of the task's space, and those that take every hole's first or last option."""
    rng = np.random.default_rng(0)
    for i in range(count):
        choices = {}

        def choose(label, choice, i=i, choices=choices):
            last = len(choice.options) - 1
            choices[label] = {0: 0, 1: last}.get(i, int(rng.integers(last + 1)))
            return choices[label]

        yield task.space.fill(choose), choices


def is_buildable(architecture):
    return not any(layer.float_only for layer in architecture.layers)


def require_a_sound_task(task: Task) -> None:
    """Assert what holds for every task, before any data are read."""
    assert task.title
    assert task.source
    assert len(task.input_meaning) == task.input_shape[-1]
    assert task.loss in LOSSES
    assert plugins.load_task(task.name).name == task.name
    assert any(o.is_ranked for o in task.objectives)
    for architecture in task.baselines.values():
        assert architecture.input_shape == task.input_shape
        assert architecture.output_shape == (len(task.output_meaning),)
        assert Architecture.from_json(architecture.to_json()) == architecture
    assert any(is_buildable(a) for a in task.baselines.values())
    for architecture, choices in fillings(task):
        assert architecture.input_shape == task.input_shape
        assert architecture.output_shape == (len(task.output_meaning),)
        assert task.space.fill_from(choices) == architecture
        require_buildable(architecture.layers)


def require_sound_data(task: Task, data: Data) -> None:
    """Assert what holds for the data of every task, and that metrics can be computed from them."""
    data.check(task)
    assert data.source
    assert re.fullmatch(r"[0-9a-f]{64}", data.digest)
    for inputs, targets in (data.train, data.validation, data.test):
        assert inputs.dtype == np.float32
        if task.loss == "cross_entropy":
            assert targets.dtype == np.int64
            assert set(np.unique(targets)) == set(range(len(task.output_meaning)))
        else:
            assert targets.dtype == np.float32
            assert targets.shape[1:] == (len(task.output_meaning),)
    rows = [{row.tobytes() for row in split.inputs if row.any()} for split in (data.train, data.test)]
    assert len(rows[0] & rows[1]) < 0.01 * len(rows[1])  # what is tested was not trained on

    right = data.test.targets
    if task.loss == "cross_entropy":
        right = np.eye(len(task.output_meaning), dtype=np.float32)[right]
    good, bad = task.score(right, data.test.targets), task.score(np.roll(right, 1, axis=0), data.test.targets)
    assert all(isinstance(v, float) and np.isfinite(v) for v in good.values())
    measured = {o.metric for o in task.objectives if o.metric in good}
    assert measured
    assert all(o.cost(good) < o.cost(bad) for o in task.objectives if o.metric in measured)

    smallest = min((a for a in task.baselines.values() if is_buildable(a)), key=Architecture.macs)
    module = network.build(smallest, seed=0)
    with torch.no_grad():
        module.train()(torch.from_numpy(data.train.inputs[:512]))
    sample = data.train.inputs[:256]
    quantized = quantize(smallest, module.eval(), task.default_bits, sample)
    integers = lower(quantized)
    require_agreement(quantized, integers, sample)
    metrics = good | hardware_metrics(integers, smallest, task.default_bits)
    assert {o.metric for o in task.objectives} <= set(metrics)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_states_a_sound_problem(name):
    task = plugins.load_task(name)
    assert task.name == name
    require_a_sound_task(task)


@pytest.mark.parametrize("name", TASKS)
def test_the_default_of_an_option_changes_nothing(name):
    for option, default in options_of(name).items():
        assert plugins.load_task(f"{name}:{option}={default}").name == name


@pytest.mark.parametrize("name", TASKS)
def test_its_data_fit_and_are_the_same_the_second_time(name, tmp_path):
    task = plugins.load_task(name)
    data = task.load(tmp_path)
    require_sound_data(task, data)
    assert task.load(tmp_path).digest == data.digest
    assert [p.name for p in tmp_path.rglob(".*")] == []  # nothing half-way


@pytest.mark.parametrize("name", TASKS)
def test_a_readme_says_where_the_data_come_from(name):
    text = (plugins.PROJECTS / name / "README.md").read_text()
    assert text.startswith("# ")
    assert f"task={name}" in text


def test_a_mistyped_task_or_option_gets_a_suggestion():
    with pytest.raises(UnknownNameError) as error:
        plugins.load_task("brag_peak")
    assert str(error.value) == f"There is no task 'brag_peak'; allowed: {', '.join(TASKS)}. Did you mean 'bragg_peak'?"
    with pytest.raises(UnknownNameError, match="Did you mean 'decimation'"):
        plugins.load_task("qubit_readout:decimatoin=8")
    with pytest.raises(InvalidValueError) as wrong:
        plugins.load_task("qubit_readout:decimation=two")
    assert str(wrong.value) == (
        "Option decimation of task qubit_readout is 'two'; allowed: a value of type int, such as decimation=4."
    )


@pytest.fixture
def guide_task(tmp_path, monkeypatch):
    """The task of docs/add-a-task.md, pasted into an empty projects folder."""
    code = re.search(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)[1]
    name = re.search(r"`projects/(\w+)/task\.py`", GUIDE.read_text())[1]
    file = Path(tmp_path / "projects" / name / "task.py")
    file.parent.mkdir(parents=True)
    file.write_text(code)
    monkeypatch.setattr(plugins, "PROJECTS", tmp_path / "projects")
    return plugins.load_task(name)


def test_the_task_of_the_guide_keeps_the_contract_and_learns(guide_task, tmp_path):
    require_a_sound_task(guide_task)
    data = guide_task.load(tmp_path)
    require_sound_data(guide_task, data)
    module = network.build(guide_task.baselines["mlp"], seed=0)
    before = guide_task.score(train.predict(module, data.validation.inputs), data.validation.targets)
    train.train(module, data, guide_task, train.TrainOptions(epochs=3), seed=0, device="cpu")
    after = guide_task.score(train.predict(module, data.validation.inputs), data.validation.targets)
    objective = guide_task.objectives[0]
    assert objective.cost(after) < 0.5 * objective.cost(before)
