"""Qubit readout: official arrays of identical layout, and the simulation's physics."""

import numpy as np
import pytest

from codesign.core import plugins
from codesign.core.errors import DataError, InvalidValueError

FILE = plugins.PROJECTS / "qubit_readout" / "task.py"
TASK = plugins.load_sibling(FILE, "task")
ORIGIN = TASK.ORIGIN
X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = TASK.FILES


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "qubit_readout"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for x, y, rows in ((X_TRAIN, Y_TRAIN, 60), (X_TEST, Y_TEST, 20)):
        np.save(folder / x, rng.integers(-500, 500, (rows, 1540)).astype(np.int16))
        np.save(folder / y, np.arange(rows) % 2)
    return tmp_path


def rewrite(folder, name, change):
    path = folder / "qubit_readout" / name
    np.save(path, change(np.load(path)))
    return path


def test_the_file_names_are_the_published_ones():
    assert TASK.FILES == (
        "0528_X_train_0_770.npy",
        "0528_y_train_0_770.npy",
        "0528_X_test_0_770.npy",
        "0528_y_test_0_770.npy",
    )


def test_official_traces_are_cut_to_the_published_window(official):
    task = plugins.load_task("qubit_readout:decimation=1")
    data = task.load(official).check(task)
    raw = np.load(official / "qubit_readout" / X_TEST)[:, 200:1000].astype(float)  # samples 100 to 499, I and Q in turn
    low, wide = data.preprocessing["subtract"], data.preprocessing["divide"]
    expected = (raw.reshape(20, 400, 2) - low) / wide
    np.testing.assert_allclose(data.test.inputs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(data.test.targets, np.arange(20) % 2)
    assert not data.is_simulation
    assert data.source == f"Official traces ({ORIGIN})"
    assert (len(data.train.inputs), len(data.validation.inputs)) == (54, 6)
    np.testing.assert_allclose(data.train.inputs.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.inputs.std(axis=(0, 1)), 1, atol=1e-5)


def test_training_and_validation_share_no_trace(official):
    data = plugins.load_task("qubit_readout").load(official)
    train, validation = ({row.tobytes() for row in split.inputs} for split in (data.train, data.validation))
    assert len(train) == 54
    assert len(validation) == 6
    assert not train & validation


def test_decimation_averages_neighbors(official):
    fine, coarse = (plugins.load_task(f"qubit_readout:decimation={d}").load(official) for d in (1, 8))
    means = fine.test.inputs.reshape(20, 50, 8, 2).mean(axis=2)
    low, wide = (np.array(coarse.preprocessing[key]) for key in ("subtract", "divide"))
    raw = means * fine.preprocessing["divide"] + fine.preprocessing["subtract"]
    np.testing.assert_allclose(coarse.test.inputs, (raw - low) / wide, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            X_TRAIN,
            lambda x: x[:, :1000],
            "The train files in {folder} have shapes (60, 1000) and (60,); allowed: (traces, 1540) and (traces,). "
            "Get them from {origin} again.",
        ),
        (
            Y_TEST,
            lambda y: y[:0],
            "The test files in {folder} have shapes (20, 1540) and (0,); allowed: (traces, 1540) and (traces,). "
            "Get them from {origin} again.",
        ),
        (
            X_TEST,
            lambda x: x[:0],
            "The test files in {folder} have shapes (0, 1540) and (20,); allowed: (traces, 1540) and (traces,). "
            "Get them from {origin} again.",
        ),
        (Y_TRAIN, lambda y: y * 2, "The train labels in {folder} are not all 0 or 1; get them from {origin} again."),
        (
            X_TRAIN,
            lambda x: x.astype("U8"),
            "The file {path} holds <U8 values; allowed: real numbers. Get it from {origin} again.",
        ),
        (
            X_TRAIN,
            lambda x: x * 0,
            "The training traces of qubit_readout have the standard deviations [0. 0.] in I and Q; allowed: finite "
            "numbers above 0. Get the files from {origin} again.",
        ),
        (
            X_TRAIN,
            lambda x: x * np.nan,
            "The training traces of qubit_readout have the standard deviations [nan nan] in I and Q; allowed: finite "
            "numbers above 0. Get the files from {origin} again.",
        ),
    ],
)
def test_a_malformed_official_file_is_named(official, name, change, message):
    path = rewrite(official, name, change)
    with pytest.raises(DataError) as error:
        plugins.load_task("qubit_readout:decimation=1").load(official)
    assert str(error.value) == message.format(path=path, folder=path.parent, origin=ORIGIN)


def test_nan_in_a_test_trace_is_found_by_the_check(official):
    rewrite(official, X_TEST, lambda x: np.where(np.arange(1540) == 300, np.nan, x))
    task = plugins.load_task("qubit_readout")
    with pytest.raises(DataError) as error:
        task.load(official).check(task)
    assert str(error.value) == "The test data of qubit_readout holds 20 NaN or infinite values; remove these rows."


def test_a_truncated_official_file_is_refused(official):
    path = official / "qubit_readout" / X_TRAIN
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError) as error:
        plugins.load_task("qubit_readout").load(official)
    assert str(error.value).startswith(f"The file {path} is truncated or no numpy array (")
    assert str(error.value).endswith(f"). Get it from {ORIGIN} again.")


def test_a_missing_official_file_is_named(official):
    (official / "qubit_readout" / Y_TEST).unlink()
    with pytest.raises(DataError) as error:
        plugins.load_task("qubit_readout").load(official)
    assert str(error.value) == (
        f"The folder {official / 'qubit_readout'} lacks {Y_TEST}; all of {', '.join(TASK.FILES)} are needed. "
        f"Get them from {ORIGIN}."
    )


@pytest.fixture(scope="module")
def traces():
    return TASK.simulate(6000, 1, np.random.default_rng(0))


def test_simulated_traces_tend_to_the_steady_states_of_the_resonator(traces):
    ground = traces.inputs[traces.targets == 0].mean(axis=0)
    kappa_half, chi, amplitude = 0.012, 0.008, 100.0
    steady = amplitude * kappa_half / (kappa_half - 1j * chi)
    late = ground[-100:].mean(axis=0)
    assert late[0] == pytest.approx(steady.real, abs=3)  # a failed preparation in a hundred shifts it by less
    assert late[1] == pytest.approx(steady.imag, abs=3)


def test_an_excited_qubit_relaxes_while_it_is_read_out(traces):
    excited, ground = (traces.inputs[traces.targets == state][..., 1].mean(axis=0) for state in (1, 0))
    distance = np.abs(excited - ground)
    assert distance[300:].mean() < 0.97 * distance[100:200].mean()
    assert distance[300:].mean() > 0.9 * distance[100:200].mean()  # T1 is 15 times longer than the window


def test_states_are_prepared_equally_often_and_seeds_count(traces):
    assert np.bincount(traces.targets).tolist() == [3000, 3000]
    again = TASK.simulate(6000, 1, np.random.default_rng(0))
    np.testing.assert_array_equal(traces.inputs, again.inputs)
    other = plugins.load_task("qubit_readout:traces=100,seed=1")
    assert other.load(FILE).digest != plugins.load_task("qubit_readout:traces=100").load(FILE).digest


def test_fidelity_weighs_both_states_alike():
    outputs = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]])
    score = TASK.score(outputs, np.array([0, 0, 0, 0, 1]))
    assert score == pytest.approx({"error": 0.125, "fidelity": 0.875})


@pytest.mark.parametrize("decimation", [1, 4, 40, 400])
def test_every_decimation_has_a_space(decimation):
    task = plugins.load_task(f"qubit_readout:decimation={decimation}")
    assert task.input_shape == (400 // decimation, 2)
    rng = np.random.default_rng(0)
    macs = [task.space.fill(lambda _, choice: int(rng.integers(len(choice.options)))).macs() for _ in range(100)]
    assert max(macs) <= 20_000


def test_a_decimation_that_does_not_divide_the_window_is_refused():
    with pytest.raises(InvalidValueError) as error:
        plugins.load_task("qubit_readout:decimation=7")
    assert str(error.value) == (
        "Task qubit_readout received decimation=7, traces=40000, lut_limit=60000.0; "
        "allowed: a decimation that divides 400, 10 or more traces, a limit of 0 or more."
    )
