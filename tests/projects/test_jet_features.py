"""High-level features: laws of the formulas, the published split and scaling, and files that are refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign.core.errors import DataError
from codesign.core.layers import require_buildable
from codesign.core.plugins import PROJECTS, load_sibling, load_task

FOLDER = PROJECTS / "jet_features"
data, features = (load_sibling(FOLDER / "task.py", name) for name in ("data", "features"))
NAMES = load_task("jet_features").input_meaning
ADVICE = "Get the file from https://www.openml.org/d/42468 (data set hls4ml_lhc_jets_hlf)"
JETS = 200


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    task = load_task("jet_features")
    return task, task.load(tmp_path_factory.mktemp("empty")).check(task)


def table():
    """Return features (JETS, 16) and class names, as an official file holds them."""
    rng = np.random.default_rng(0)
    return np.round(rng.gamma(2.0, 3.0, (JETS, 16)), 5), rng.choice(list("gqtwz"), JETS)


def write(folder, suffix, values=None, classes=None, names=NAMES):
    values, classes = table()[0] if values is None else values, table()[1] if classes is None else classes
    path = folder / "jet_features" / f"hls4ml_lhc_jets_hlf{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join([*(f"{v!r}" for v in row.tolist()), c]) for row, c in zip(values, classes, strict=True)]
    if suffix == ".arff":
        head = [
            "% a comment",
            "@RELATION jets",
            *(f"@ATTRIBUTE {n} REAL" for n in names),
            "@ATTRIBUTE class {g,q,t,w,z}",
        ]
        path.write_text("\n".join([*head, "", "@DATA", *rows]) + "\n")
    elif suffix == ".csv":
        path.write_text("\n".join([",".join([*names, "class"]), *rows]) + "\n")
    else:
        import pandas as pd

        frame = pd.DataFrame(values, columns=list(names))
        frame["class"] = pd.Categorical(classes)
        frame.to_parquet(path)
    return path


def test_the_baseline_is_the_published_network():
    task = load_task("jet_features")
    baseline = task.baselines["duarte_2018"]
    assert baseline.parameters() == 4389
    assert [layer.width for layer in baseline.layers if hasattr(layer, "width")] == [64, 32, 32, 5]
    assert task.input_shape == (16,)
    assert len(set(task.input_meaning)) == 16


@given(st.randoms())
def test_whatever_fills_the_space_can_be_built(random):
    architecture = load_task("jet_features").space.fill(lambda _, hole: random.randrange(len(hole.options)))
    require_buildable(architecture.layers)
    assert architecture.output_shape == (5,)


# --- official files


@pytest.mark.parametrize("suffix", [".arff", ".csv", ".parquet"])
def test_an_official_file_is_split_and_scaled_as_published(tmp_path, suffix):
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelEncoder, StandardScaler

    write(tmp_path, suffix)
    task = load_task("jet_features")
    jets = task.load(tmp_path).check(task)
    values, classes = table()
    x, x_test, y, y_test = train_test_split(
        values, LabelEncoder().fit_transform(classes), test_size=0.2, random_state=42
    )
    scaler = StandardScaler().fit(x)
    assert not jets.is_simulation
    np.testing.assert_allclose(jets.test.inputs, scaler.transform(x_test), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jets.test.targets, y_test)
    np.testing.assert_allclose(jets.train.inputs, scaler.transform(x)[:120], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jets.validation.inputs, scaler.transform(x)[120:], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([jets.train.targets, jets.validation.targets]), y)
    np.testing.assert_allclose(jets.preprocessing["subtract"], scaler.mean_)
    np.testing.assert_allclose(jets.preprocessing["divide_by"], scaler.scale_)


def test_the_class_names_are_in_the_order_of_the_labels():
    assert [name[0].lower() for name in load_task("jet_features").output_meaning] == list(data.LABELS)


@pytest.mark.parametrize("suffix", [".arff", ".csv"])
@pytest.mark.parametrize("text", ["nan", "?", "inf", "x"])
def test_what_is_no_number_is_counted(tmp_path, suffix, text):
    path = write(tmp_path, suffix)
    lines = path.read_text().splitlines()
    lines[-1] = f"{text},{text}," + lines[-1].split(",", 2)[2]
    path.write_text("\n".join(lines))
    message = f"{path} holds 2 values that are no finite numbers. {ADVICE} again."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_features").load(tmp_path)


def test_a_feature_that_does_not_vary_is_named(tmp_path):
    values = table()[0]
    values[:, 14] = 80
    write(tmp_path, ".csv", values)
    message = "The feature mass_mmdt of the jets does not vary (its deviation is 0); check the data file."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_features").load(tmp_path)


def test_an_unknown_class_is_named(tmp_path):
    path = write(tmp_path, ".csv", classes=["b"] * JETS)
    message = f"{path} holds the class 'b'; allowed: g, q, t, w, z. {ADVICE} again."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_features").load(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    path = write(tmp_path, ".parquet", names=("z", *NAMES[1:]))
    message = f"{path} has no column zlogz; it has: z, {', '.join(NAMES[1:])}, class. {ADVICE}."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_features").load(tmp_path)


def test_a_file_without_rows_is_refused(tmp_path):
    path = write(tmp_path, ".csv", values=np.zeros((0, 16)), classes=[])
    with pytest.raises(
        DataError, match=rf"^{re.escape(str(path))} holds no rows; allowed: one jet a row\. Get the file"
    ):
        load_task("jet_features").load(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".arff", b"@RELATION jets\n", r"has no line @DATA; allowed: an ARFF file\. Get the file"),
        (".arff", b"", r"has no line @DATA; allowed: an ARFF file\. Get the file"),
        (".csv", b"", r"cannot be read \(No columns to parse from file\)\. Get the file"),
        (".csv", b"\xff\xfe\x00", r"cannot be read \(.*\)\. Get the file"),
        (".parquet", b"PAR1", r"cannot be read \(.*\)\. Get the file"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, suffix, content, message):
    path = write(tmp_path, ".csv").with_suffix(suffix)
    path.with_suffix(".csv").unlink()
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))} {message}"):
        load_task("jet_features").load(tmp_path)


def test_a_truncated_parquet_file_is_refused(tmp_path):
    path = write(tmp_path, ".parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        load_task("jet_features").load(tmp_path)


def test_a_file_under_another_name_is_not_ignored_silently(tmp_path):
    path = write(tmp_path, ".csv")
    path.rename(path.with_name("jets.csv"))
    message = (
        f"{path.parent} holds jets.csv; allowed: hls4ml_lhc_jets_hlf.parquet, hls4ml_lhc_jets_hlf.arff, "
        "hls4ml_lhc_jets_hlf.csv. Rename the file, or take it away."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_features").load(tmp_path)


# --- simulation


def test_the_simulation_is_declared_balanced_and_standardized(simulated):
    _, jets = simulated
    assert jets.is_simulation
    assert "not the official benchmark" in jets.source
    for split, count in ((jets.train, 56_000), (jets.validation, 8_000), (jets.test, 16_000)):
        assert np.bincount(split.targets).tolist() == [count // 5] * 5
    kept = np.concatenate([jets.train.inputs, jets.validation.inputs])
    np.testing.assert_allclose(kept.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(kept.std(axis=0), 1, atol=1e-3)


def test_heavy_jets_are_heavy_and_gluons_have_more_particles_than_quarks(simulated):
    task, jets = simulated
    median = {
        name: np.median(jets.train.inputs[jets.train.targets == i], axis=0)
        for i, name in enumerate(task.output_meaning)
    }
    mass, multiplicity = NAMES.index("mass_mmdt"), NAMES.index("multiplicity")
    assert median["quark"][mass] < median["W"][mass] < median["Z"][mass] < median["top"][mass]
    assert median["quark"][multiplicity] < median["gluon"][multiplicity]


ANY_JET = hnp.arrays(
    np.float64, (6, 3), elements=st.integers(-700, 700).map(lambda v: v / 1000), unique=True
).map(lambda jet: jet + np.array([1.0, 0, 0]))  # fmt: skip


def compute(constituents, jet_pt=10.0):
    return features.compute(constituents, np.array([jet_pt]), np.array([80.0]), np.array([6]))[0]


@given(ANY_JET, st.permutations(range(6)), st.floats(0, 2 * np.pi), st.floats(0.1, 10))
def test_features_do_not_depend_on_order_rotation_padding_or_units(jet, order, angle, unit):
    expected = compute(jet[None])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = np.column_stack([jet[:, 0], jet[:, 1:] @ rotation])
    padded = np.concatenate([jet, np.zeros((2, 3))])
    scaled = jet * [unit, 1, 1]
    for same in (
        compute(jet[order][None]),
        compute(turned[None]),
        compute(padded[None]),
        compute(scaled[None], 10 * unit),
    ):
        np.testing.assert_allclose(same, expected, rtol=2e-4, atol=1e-6)


@given(ANY_JET)
def test_features_equal_their_definitions(jet):
    from itertools import combinations

    z, axes = jet[:, 0] / 10, jet[:, 1:]
    distance = lambda i, j: np.linalg.norm(axes[i] - axes[j])
    e2 = {b: sum(z[i] * z[j] * distance(i, j) ** b for i, j in combinations(range(6), 2)) for b in (0, 1, 2)}
    ordered = {t: sorted(distance(i, j) for i, j in combinations(t, 2)) for t in combinations(range(6), 3)}
    e3 = {
        (v, b): sum(np.prod(z[list(t)]) * np.prod(sides[:v]) ** b for t, sides in ordered.items())
        for v in (1, 2, 3)
        for b in (1, 2)
    }
    expected = {
        "zlogz": np.sum(z * np.log(z)), "c1_b0_mmdt": e2[0], "c1_b1_mmdt": e2[1], "c1_b2_mmdt": e2[2],
        "c2_b1_mmdt": e3[3, 1] / e2[1] ** 2, "c2_b2_mmdt": e3[3, 2] / e2[2] ** 2,
        "d2_b1_mmdt": e3[3, 1] / e2[1] ** 3, "d2_b2_mmdt": e3[3, 2] / e2[2] ** 3,
        "d2_a1_b1_mmdt": e3[3, 1] / e2[1] ** 3, "d2_a1_b2_mmdt": e3[3, 1] / e2[2] ** 1.5,
        "m2_b1_mmdt": e3[1, 1] / e2[1], "m2_b2_mmdt": e3[1, 2] / e2[2],
        "n2_b1_mmdt": e3[2, 1] / e2[1] ** 2, "n2_b2_mmdt": e3[2, 2] / e2[2] ** 2,
        "mass_mmdt": 80, "multiplicity": 6,
    }  # fmt: skip
    np.testing.assert_allclose(compute(jet[None]), [expected[name] for name in NAMES], rtol=1e-4, atol=1e-6)


def test_a_jet_of_one_particle_has_finite_features():
    jet = np.zeros((1, 6, 3))
    jet[0, 0] = [10, 0.1, 0.1]
    assert np.isfinite(compute(jet)).all()
    assert not compute(jet)[1:14].any()
