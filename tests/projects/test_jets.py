"""Jets: published baselines to the last digit, published preprocessing, honest splits, and damage that is noticed."""

import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign.blocks.deep_sets import DeepSets
from codesign.blocks.dense import Dense
from codesign.blocks.linear_interaction import LinearInteraction
from codesign.blocks.mlp_mixer import MlpMixer
from codesign.core.architecture import Architecture
from codesign.core.complexity import bops_nac
from codesign.core.errors import DataError, InvalidValueError, UnknownNameError
from codesign.core.layers import require_buildable
from codesign.core.plugins import PROJECTS, load_sibling, load_task
from codesign.core.trial import Fidelity
from codesign.jobs.evaluate import Evaluator
from codesign.jobs.search import Search, candidates
from codesign.search.halving import Halving
from codesign.search.space import find_choices

FOLDER = PROJECTS / "jet_classification"
data, generate, store = (load_sibling(FOLDER / "task.py", name) for name in ("data", "generate", "store"))
PUBLISHED = {
    "odagiu_deep_sets": (2853, 236_376),
    "nac_large": (4783, 387_736),
    "nac_medium": (2967, 218_296),
    "nac_small": (685, 47_142),
    "nac_tiny": (375, 26_324),
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    task = load_task("jet_classification")
    return task, task.load(tmp_path_factory.mktemp("empty")).check(task)


# --- the task


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_baseline_has_the_published_parameters_and_bops(name):
    baseline = load_task("jet_classification").baselines[name]
    parameters, bops = PUBLISHED[name]
    assert baseline.parameters() == parameters
    assert int(bops_nac(baseline, bits=8)) == bops
    assert baseline.output_shape == (5,)


@pytest.mark.parametrize("particles", [8, 16, 32, 64])
def test_every_size_has_a_task_under_its_own_name(particles):
    task = load_task(f"jet_classification:particles={particles}")
    assert task.input_shape == (particles, 3)
    assert task.space.input_shape == task.input_shape
    assert load_task(task.name).input_shape == task.input_shape
    assert load_task(f"{task.name}{',' if ':' in task.name else ':'}space=deep_sets").name.endswith("space=deep_sets")
    assert {baseline.input_shape for baseline in task.baselines.values()} == {task.input_shape}


def test_another_number_of_particles_is_refused():
    with pytest.raises(InvalidValueError, match=r"^The jets have 9 particles; allowed: 8, 16, 32, 64\.$"):
        load_task("jet_classification:particles=9")


@given(st.randoms())
def test_whatever_fills_the_space_can_be_built(random):
    space = load_task("jet_classification").space
    architecture = space.fill(lambda _, hole: random.randrange(len(hole.options)))
    require_buildable(architecture.layers)
    assert architecture.output_shape == (5,)
    assert type(architecture).from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize(("particles", "parameters"), [(8, 26_401), (16, 20_245), (32, 24_101)])
def test_the_mlp_has_the_parameters_of_the_authors_configuration(particles, parameters):
    mlp = load_task(f"jet_classification:particles={particles}").baselines["odagiu_mlp"]
    assert mlp.parameters() == parameters
    assert mlp.is_buildable


def test_a_search_starts_from_the_baselines_that_could_win(tmp_path):
    task = load_task("jet_classification")
    evaluator = Evaluator(task.name, task.default_bits, tmp_path)
    search = Search(task, task.objectives, evaluator, Halving((Fidelity(1),)), "random", trials=1, seed=0, workers=1)
    names = {architecture: name for name, architecture in task.baselines.items()}
    assert set(names.values()) - {names[a] for a in candidates(search)} == {"odagiu_mlp"}  # it breaks the limit


FIRST = {
    "ordered interaction": LinearInteraction(8, "ordered"),
    "mean interaction": LinearInteraction(16, norm="batch"),
    "mixer": MlpMixer(4, 8),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", [DeepSets((16, 8)), Dense(32)])
def test_the_space_reaches_what_todays_best_networks_are_made_of(first, second):
    space = load_task("jet_classification").space
    architecture = Architecture((8, 3), (FIRST[first], second, Dense(5, "identity")))
    assert space.fill_from(find_choices(space, architecture)) == architecture


def test_the_papers_space_is_the_part_without_interactions():
    spaces = [load_task(f"jet_classification:space={name}").space for name in ("deep_sets", "buildable")]
    architecture = Architecture((8, 3), (DeepSets((32, 16)), Dense(16), Dense(5, "identity")))
    assert all(find_choices(space, architecture) for space in spaces)
    assert not find_choices(spaces[0], Architecture((8, 3), (MlpMixer(4, 8), Dense(32), Dense(5, "identity"))))
    assert [type(block).__name__ for block in spaces[0].blocks[0].options] == ["DeepSets", "Dense"]


def test_a_mistyped_space_is_refused():
    with pytest.raises(UnknownNameError, match=r"There is no search space of jet_classification 'deepsets'; allowed: "):
        load_task("jet_classification:space=deepsets")


@given(hnp.arrays(np.float32, (20, 5), elements=st.floats(-9, 9, width=32)), st.permutations(range(20)))
def test_the_score_does_not_depend_on_the_order(outputs, order):
    score = load_task("jet_classification").score
    targets = np.arange(20) % 5
    metrics = score(outputs, targets)
    assert metrics == score(outputs[order], targets[order])
    assert metrics["accuracy"] + metrics["error"] == 1
    assert score(np.eye(5)[targets], targets) == {"accuracy": 1.0, "error": 0.0}


# --- the sample


def test_the_sample_is_small_and_the_one_that_the_code_names(simulated):
    _, jets = simulated
    assert data.SAMPLE.stat().st_size < 6_000_000
    data.check_sample(data.SAMPLE)
    _, record = store.read(data.SAMPLE)
    assert data.SAMPLE_COMMAND.endswith(record["command"])
    assert record["settings_key"] == generate.settings_key()
    assert jets.is_simulation
    assert "not the official benchmark" in jets.source


def test_the_sample_is_balanced_and_split_in_ratio(simulated):
    _, jets = simulated
    for split, count in ((jets.train, 56_000), (jets.validation, 8_000), (jets.test, 16_000)):
        assert np.bincount(split.targets).tolist() == [count // 5] * 5
        assert split.inputs.dtype == np.float32
        assert split.targets.dtype == np.int64


def test_no_jet_of_the_sample_stands_in_two_splits(simulated):
    _, jets = simulated
    rows = [{row.tobytes() for row in split.inputs} for split in (jets.train, jets.validation, jets.test)]
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & rows[2]


def test_the_sample_looks_like_jets():
    stored, _ = store.read(data.SAMPLE)
    jets = generate.decode(stored)
    pt, eta_rel, phi_rel = np.moveaxis(jets["constituents"], -1, 0)
    assert (np.diff(pt, axis=1) <= 0).all()
    assert pt[pt > 0].min() >= 2
    assert np.abs(jets["constituents"][pt == 0]).max() == 0
    assert np.hypot(eta_rel, phi_rel).max() < 1.0
    assert (pt.sum(axis=1) <= jets["jet_pt"] * 1.1).all()
    assert jets["multiplicity"].mean() == pytest.approx(49.4, abs=1.5)  # the official mean
    mass = {name: np.median(jets["jet_mass"][jets["label"] == i]) for i, name in enumerate(generate.CLASSES)}
    assert mass["w"] == pytest.approx(80.4, abs=2)
    assert mass["z"] == pytest.approx(91.2, abs=2)
    assert mass["t"] == pytest.approx(172.5, abs=4)


def test_inputs_are_scaled_by_what_the_preprocessing_states(simulated, tmp_path):
    _, jets = simulated
    constituents = data.simulated_jets(tmp_path, 8)[0]["constituents"][:, :8]
    scaled = constituents / np.array(jets.preprocessing["divide_by"], np.float32)
    np.testing.assert_array_equal(scaled[:56_000], jets.train.inputs)
    kept = np.concatenate([jets.train.inputs, jets.validation.inputs]).reshape(-1, 3)
    np.testing.assert_allclose(np.percentile(kept, 95, axis=0) - np.percentile(kept, 5, axis=0), 1, rtol=1e-3)
    json.dumps(jets.preprocessing)


def test_loading_twice_gives_the_same_data(simulated, tmp_path):
    task, jets = simulated
    again = task.load(tmp_path)
    assert again.digest == jets.digest
    np.testing.assert_array_equal(again.train.inputs, jets.train.inputs)


def test_a_changed_sample_is_refused(tmp_path):
    path = tmp_path / "sample.npz"
    content = bytearray(data.SAMPLE.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"has sha256 \w+; allowed: {data.SAMPLE_SHA256}\. Restore it from the repos"):
        data.check_sample(path)
    with pytest.raises(
        DataError, match=r"nothing\.npz is missing; restore it from the repository, or make it: python "
    ):
        data.check_sample(tmp_path / "nothing.npz")


def test_more_particles_than_the_sample_has_say_how_to_get_them(tmp_path):
    message = (
        f"There are no jets of 32 particles in {tmp_path / 'jet_classification'}; the shipped sample has 16. "
        f"Generate them: python projects/jet_classification/generate.py --jets 600000 --particles 32"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_classification:particles=32").load(tmp_path)


# --- generated files


def write_generated(folder, jets=100, particles=64, seed=3):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(jets):
        kept = np.column_stack([np.sort(rng.exponential(30, 50))[::-1] + 2, rng.normal(0, 0.2, (50, 2))])
        found.append((np.array([1000.0, 80.0, 60]), kept))
    arrays = generate._encode(found, particles) | {"label": (np.arange(jets) // 2 % 5).astype(np.uint8)}
    record = {"jets": jets, "particles": particles, "seed": seed}
    path = folder / "jet_classification" / generate.file_name(jets, particles, seed)
    store.write(path, {key: array.T for key, array in arrays.items()}, record)
    return path, found


def test_the_largest_generated_file_is_taken(tmp_path):
    write_generated(tmp_path, jets=50)
    write_generated(tmp_path, jets=200, particles=16)
    write_generated(tmp_path, jets=100)
    task = load_task("jet_classification:particles=32")
    jets = task.load(tmp_path).check(task)
    assert [len(split.inputs) for split in (jets.train, jets.validation, jets.test)] == [70, 10, 20]
    assert "100 jets, seed 3" in jets.source


def test_a_file_of_other_settings_is_not_taken(tmp_path):
    path, _ = write_generated(tmp_path)
    path.rename(path.with_name(path.name.replace(generate.settings_key(), "0" * 12)))
    with pytest.raises(DataError, match="There are no jets of 64 particles"):
        load_task("jet_classification:particles=64").load(tmp_path)


def test_encoding_loses_less_than_the_detector(tmp_path):
    path, found = write_generated(tmp_path, particles=40)
    jets = generate.decode(store.read(path)[0])
    exact = np.stack([kept[:40] for _, kept in found])
    np.testing.assert_allclose(jets["constituents"][..., 0], exact[..., 0], rtol=0.003)
    np.testing.assert_allclose(jets["constituents"][..., 1:], exact[..., 1:], atol=0.0006)
    np.testing.assert_allclose(jets["jet_mass"], 80, atol=0.1)


def test_a_truncated_or_altered_file_is_noticed(tmp_path):
    path, _ = write_generated(tmp_path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-10], b"", content[:400] + b"\0" * 8 + content[408:]):
        path.write_bytes(damaged)
        with pytest.raises(
            DataError, match=rf"^{re.escape(str(path))} is truncated or damaged .* it can be made again"
        ):
            store.read(path)
    arrays = {"pt": np.arange(5)}
    store.write(path, arrays, {})
    with zipfile.ZipFile(path) as archive:
        provenance = archive.read("provenance.npy")
    store.write(path, {"pt": np.arange(6)}, {})
    with zipfile.ZipFile(path) as archive:
        other = archive.read("pt.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("provenance.npy", provenance)
        archive.writestr("pt.npy", other)
    with pytest.raises(DataError, match=r"holds content of sha256 \w+; it was written with \w+\. Delete it; it can be"):
        store.read(path)


@given(hnp.arrays(st.sampled_from([np.int16, np.float32, np.uint8]), hnp.array_shapes(max_dims=3)))
def test_the_digest_sees_values_type_and_shape(array):
    digest = store.content_digest({"a": array})
    assert digest == store.content_digest({"a": array.copy()})
    others = {"a": array.reshape(*array.shape, 1)}, {"b": array}, {"a": array.astype(np.float64)}, {"a": array[:-1]}
    assert digest not in {store.content_digest(other) for other in others}


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        store.write(tmp_path / "a.npz", {"a": np.array([object()], dtype=object)}, {})
    assert not list(tmp_path.iterdir())


# --- the generator


def run_generator(*arguments):
    command = [sys.executable, FOLDER / "generate.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--jets", "12"), "--jets is 12; allowed: a multiple of 10 (5 classes, 2 jets an event)."),
        (("--jets", "0"), "--jets is 0; allowed: a multiple of 10 (5 classes, 2 jets an event)."),
        (("--particles", "0"), "--particles is 0; allowed: 1 to 128."),
        (("--seed", "-1"), "--seed is -1; allowed: 0 or more."),
        (("--workers", "0"), "--workers is 0; allowed: 1 or more."),
    ],
)
def test_the_generator_refuses_what_it_cannot_do(arguments, message):
    result = run_generator(*arguments)
    assert result.returncode == 2
    assert result.stderr.endswith(f"{message}\n")


def test_the_generator_reproduces_the_head_of_the_sample_with_any_number_of_workers(tmp_path):
    for package in ("pythia8mc", "fastjet"):
        pytest.importorskip(package, reason="the optional extra `generate` is not installed")
    for workers in ("1", "2"):
        out = tmp_path / f"{workers}.npz"
        assert run_generator("--jets", "20", "--seed", "0", "--workers", workers, "--out", str(out)).returncode == 0
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    head, sample = store.read(tmp_path / "1.npz")[0], store.read(data.SAMPLE)[0]
    for key, array in head.items():
        np.testing.assert_array_equal(array, sample[key][..., :20])
