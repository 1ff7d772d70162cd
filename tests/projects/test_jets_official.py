"""Official jet files: a small copy of their layout is read as published, cached, and refused where it is damaged."""

import re
import shutil
import tarfile

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign.core.errors import DataError
from codesign.core.plugins import PROJECTS, load_sibling, load_task

official = load_sibling(PROJECTS / "jet_classification" / "task.py", "official")
ADVICE = "Download it again: python -m projects.jet_classification.download"


def raw_jets(jets, seed=0, constituents=150, columns=16):
    """Return one official file's arrays: constituents of falling pt, one-hot labels."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(jets, constituents, columns))
    values[:, :, 5] = np.sort(rng.exponential(20, (jets, constituents)), axis=1)[:, ::-1]
    features = rng.normal(size=(jets, 59))
    features[:, -6:-1] = np.eye(5)[rng.integers(5, size=jets)]
    return values, features


def write_h5(path, seed=0, **replaced):
    constituents, features = raw_jets(40, seed)
    arrays = {"jetConstituentList": constituents, "jets": features} | replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return path


def write_official(folder, is_archive=False):
    """Write both halves in the official layout and return their folder."""
    folder = folder / "jet_classification"
    for part, files in (("train", 3), ("val", 2)):
        for i in range(files):
            write_h5(folder / part / f"jetImage_{i}_150p_0_40.h5", seed=10 * files + i)
        if is_archive:
            with tarfile.open(folder / f"hls4ml_LHCjet_150p_{part}.tar.gz", "w:gz") as archive:
                archive.add(folder / part, part)
            shutil.rmtree(folder / part)
    return folder


@pytest.mark.parametrize("is_archive", [False, True])
def test_official_files_are_preprocessed_as_published(tmp_path, is_archive):
    folder = write_official(tmp_path, is_archive)
    task = load_task("jet_classification")
    jets = task.load(tmp_path).check(task)
    assert not jets.is_simulation
    assert [len(split.inputs) for split in (jets.train, jets.validation, jets.test)] == [108, 12, 80]
    halves = []
    for files in (3, 2):  # written out with loops, as a second opinion
        inputs, labels = [], []
        for i in range(files):
            constituents, features = raw_jets(40, seed=10 * files + i)
            for jet, label in zip(constituents, features[:, -6:-1], strict=True):
                kept = jet[jet[:, 5] > 2][:8][:, [5, 8, 11]]
                inputs.append(np.pad(kept, ((0, 8 - len(kept)), (0, 0))))
                labels.append(label.argmax())
        halves.append((np.array(inputs), np.array(labels)))
    (train, train_labels), (val, val_labels) = halves
    flat = train.reshape(-1, 3)
    spread = np.percentile(flat, 95, axis=0) - np.percentile(flat, 5, axis=0)
    np.testing.assert_allclose(jets.test.inputs, val / spread, rtol=1e-5)
    np.testing.assert_array_equal(jets.test.targets, val_labels)
    rows = {tuple(np.round(x.ravel(), 3)): y for x, y in zip(train / spread, train_labels, strict=True)}
    assert len(rows) == 120
    for split in (jets.train, jets.validation):
        for x, y in zip(split.inputs, split.targets, strict=True):
            assert rows.pop(tuple(np.round(x.ravel().astype(float), 3)), y) == y
    assert len(list(folder.glob("official_8p_*.npz"))) == 1


def test_archive_and_extracted_files_give_the_same_data(tmp_path):
    write_official(tmp_path / "a", is_archive=True)
    write_official(tmp_path / "b")
    task = load_task("jet_classification:particles=16")
    first, second = task.load(tmp_path / "a"), task.load(tmp_path / "b")
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)


def test_the_cache_is_read_again_verified_and_renewed_with_its_sources(tmp_path):
    folder = write_official(tmp_path)
    task = load_task("jet_classification")
    jets = task.load(tmp_path)
    (cache,) = folder.glob("official_8p_*.npz")
    written = cache.stat().st_mtime_ns
    assert task.load(tmp_path).digest == jets.digest
    assert cache.stat().st_mtime_ns == written
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 1
    cache.write_bytes(content)
    with pytest.raises(DataError, match="Delete it; it can be made again"):
        task.load(tmp_path)
    cache.unlink()
    write_h5(folder / "train" / "jetImage_9_150p_0_40.h5", seed=99)
    assert len(task.load(tmp_path).test.inputs) == 80
    assert task.load(tmp_path).digest != jets.digest


@given(
    hnp.arrays(np.float64, (6, 12, 16), elements=st.floats(0, 10)),
    st.sampled_from([1, 4, 8, 16]),
)
def test_the_selection_keeps_hard_particles_in_order(constituents, particles):
    one_hot = np.eye(5)[np.arange(6) % 5]
    inputs, labels = official._select("f", constituents, one_hot, particles)
    hard = [jet[jet[:, 5] > 2] for jet in constituents]
    assert len(inputs) == len(labels) == sum(len(jet) > 0 for jet in hard)
    for x, jet in zip(inputs, (jet for jet in hard if len(jet)), strict=True):
        count = min(len(jet), particles)
        np.testing.assert_array_equal(x[:count], jet[:count][:, [5, 8, 11]].astype(np.float32))
        assert not x[count:].any()


def with_nan():
    constituents, _ = raw_jets(40)
    constituents[3, 4, 8] = np.nan
    constituents[5, 6, 11] = np.inf
    return constituents


BAD = [
    ("has no dataset jets; it has: jetConstituentList.", {"jets": None}),
    ("has no dataset jetConstituentList; it has: jets.", {"jetConstituentList": None}),
    (
        "has jetConstituentList of shape (40, 150) and jets of (40, 59); allowed: (jets, 150, 16) and (jets, 59).",
        {"jetConstituentList": np.zeros((40, 150))},
    ),
    (
        "has jetConstituentList of shape (40, 150, 16) and jets of (40, 5); allowed: (jets, 150, 16) and (jets, 59).",
        {"jets": np.zeros((40, 5))},
    ),
    (
        "has jetConstituentList of shape (40, 150, 16) and jets of (39, 59); allowed: as many jets in both, and at "
        "least one.",
        {"jets": np.zeros((39, 59))},
    ),
    (
        "has jetConstituentList of shape (0, 150, 16) and jets of (0, 59); allowed: as many jets in both, and at "
        "least one.",
        {"jets": np.zeros((0, 59)), "jetConstituentList": np.zeros((0, 150, 16))},
    ),
    ("holds 2 NaN or infinite values among the constituents.", {"jetConstituentList": with_nan()}),
    (
        "has a label [0.0, 0.0, 0.0, 0.0, 0.0]; allowed: one 1 and four 0 (one-hot).",
        {"jets": np.zeros((40, 59))},
    ),
    (
        "has a label [0.2, 0.2, 0.2, 0.2, 0.2]; allowed: one 1 and four 0 (one-hot).",
        {"jets": np.full((40, 59), 0.2)},
    ),
    (
        f"has the particle features {', '.join(f'j1_{c}' for c in 'abcdefghijklmnop')}; expected: {{5: 'pt', "
        "8: 'etarel', 11: 'phirel'} by column.",
        {"particleFeatureNames": np.array([f"j1_{c}" for c in "abcdefghijklmnop"], "S")},
    ),
    (
        "ends in the jet features a, b, c, d, e, f; expected: j_g, j_q, j_w, j_z, j_t, one more.",
        {"jetFeatureNames": np.array(list("abcdef"), "S")},
    ),
]


@pytest.mark.parametrize(("message", "replaced"), BAD)
def test_a_malformed_file_is_named_and_nothing_is_cached(tmp_path, message, replaced):
    folder = write_official(tmp_path)
    write_h5(folder / "train" / "jetImage_1_150p_0_40.h5", **replaced)
    with pytest.raises(DataError, match=f"^{re.escape(f'train/jetImage_1_150p_0_40.h5 {message} {ADVICE}')}$"):
        load_task("jet_classification").load(tmp_path)
    assert not list(folder.glob("*official*"))


def test_the_names_that_official_files_state_are_accepted(tmp_path):
    folder = write_official(tmp_path)
    names = ["px", "py", "pz", "e", "erel", "pt", "ptrel", "eta", "etarel", "etarot", "phi", "phirel", "phirot"]
    write_h5(
        folder / "train" / "jetImage_1_150p_0_40.h5",
        particleFeatureNames=np.array([f"j1_{name}" for name in names], "S"),
        jetFeatureNames=np.array(["j_pt", *official.LABELS, "j_undef"], "S"),
    )
    assert not load_task("jet_classification").load(tmp_path).is_simulation


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.9])
def test_a_truncated_file_is_noticed(tmp_path, kept):
    folder = write_official(tmp_path)
    path = folder / "val" / "jetImage_1_150p_0_40.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(
        DataError, match=r"^val/jetImage_1_150p_0_40.h5 is no HDF5 file, or a truncated one \(.*Download it"
    ):
        load_task("jet_classification").load(tmp_path)
    assert not list(folder.glob("*official*"))


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.99])
def test_a_truncated_archive_is_noticed(tmp_path, kept):
    folder = write_official(tmp_path, is_archive=True)
    path = folder / "hls4ml_LHCjet_150p_train.tar.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(
        DataError, match=rf"^{re.escape(str(path))} (is truncated or damaged|holds no jetImage).*Download"
    ):
        load_task("jet_classification").load(tmp_path)
    assert not list(folder.glob("*official*"))


def test_one_half_alone_is_not_mixed_with_a_simulation(tmp_path):
    folder = write_official(tmp_path)
    shutil.rmtree(folder / "val")
    message = (
        f"The official jets in {folder} are half there: hls4ml_LHCjet_150p_val.tar.gz is missing; allowed: both, or "
        "neither for the simulation. Do: python -m projects.jet_classification.download"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("jet_classification").load(tmp_path)
