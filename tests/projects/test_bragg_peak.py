"""Bragg peaks: official files of identical layout, the simulation's statistics, the published baselines."""

import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.blocks.dense import Dense
from codesign.core import plugins
from codesign.core.architecture import Architecture
from codesign.core.errors import DataError, InvalidValueError, UnknownNameError, UnsupportedError
from codesign.core.layers import require_buildable
from codesign.core.trial import Fidelity
from codesign.jobs.evaluate import Evaluator
from codesign.search.study import run_study

FILE = plugins.PROJECTS / "bragg_peak" / "task.py"
TASK, CACHE, CLASSICAL, OFFICIAL, PATCHES, SIMULATOR = (
    plugins.load_sibling(FILE, name) for name in ("task", "cache", "classical", "official", "patches", "simulator")
)
ORIGIN = OFFICIAL.ORIGIN
FRAMES = (6, 40, 48)
N = 20


@pytest.fixture
def official(tmp_path):
    """A data folder with small official files: 20 peaks sorted by frame, one pixel high in the middle of each."""
    folder = tmp_path / "bragg_peak"
    folder.mkdir()
    rng = np.random.default_rng(0)
    columns = {
        "peak_fidx": np.sort(rng.integers(0, FRAMES[0], N)).astype("u4"),
        "peak_row": rng.uniform(0, FRAMES[1], N).astype("f4"),
        "peak_col": rng.uniform(0, FRAMES[2], N).astype("f4"),
        "npeaks": np.ones(N, "u2"),
        "deviations": rng.uniform(0, 1, N).astype("f4"),
    }
    columns["peak_row"][0], columns["peak_col"][0] = 0.25, 47.75  # in a corner of the detector
    columns["npeaks"][3], columns["deviations"][4], columns["deviations"][5] = 2, -1, 1
    with h5py.File(folder / OFFICIAL.FRAMES, "w") as file:
        file["frames"] = rng.uniform(1, 1000, FRAMES).astype("f4")  # no zeros: one component
    with h5py.File(folder / OFFICIAL.PEAKS, "w") as file:
        for name, column in columns.items():
            file[name] = column
    return tmp_path


def change(folder, name, values):
    """Replace a data set of an official file, or delete it where `values` is None."""
    path = folder / "bragg_peak" / (OFFICIAL.FRAMES if name == "frames" else OFFICIAL.PEAKS)
    with h5py.File(path, "r+") as file:
        old = file[name][...]
        del file[name]
        if values is not None:
            file[name] = values(old)
    return path


def set_at(index, value):
    def replaced(array):
        array[index] = value
        return array

    return replaced


def test_official_patches_are_the_crops_around_single_well_fitted_peaks(official):
    folder = official / "bragg_peak"
    counts, labels, split = OFFICIAL.read(folder)
    with h5py.File(folder / OFFICIAL.FRAMES) as file:
        frames = np.pad(file["frames"][...], ((0, 0), (5, 6), (5, 6)))
    with h5py.File(folder / OFFICIAL.PEAKS) as file:
        columns = {name: file[name][...] for name in OFFICIAL.COLUMNS}
    kept = [i for i in range(N) if i not in (3, 4, 5)]
    assert len(counts) == len(kept)
    for patch, label, i in zip(counts, labels, kept, strict=True):
        row, column = int(columns["peak_row"][i]), int(columns["peak_col"][i])
        np.testing.assert_array_equal(patch, frames[columns["peak_fidx"][i], row : row + 11, column : column + 11])
        assert label[0] == pytest.approx(columns["peak_row"][i] - row + 5)
        assert label[1] == pytest.approx(columns["peak_col"][i] - column + 5)
    assert (labels >= 5).all()
    assert (labels < 6).all()
    np.testing.assert_array_equal(split, [0] * 13 + [1] * 2 + [2] * 2)  # 16, 2 and 2 rows, less three that are left out
    assert not counts[0][:5].any()  # beyond the upper edge
    assert not counts[0][:, 6:].any()  # beyond the right edge
    assert counts[0][5:, :6].all()


def test_the_task_takes_official_files_where_they_are_and_keeps_their_patches(official):
    task = plugins.load_task("bragg_peak")
    data = task.load(official).check(task)
    counts, labels, _ = OFFICIAL.read(official / "bragg_peak")
    assert not data.is_simulation
    assert data.source.startswith(
        "Official BraggNN data (frames-exp4train.hdf5, peaks-exp4train-psz11.hdf5); a constant"
    )
    np.testing.assert_array_equal(data.train.inputs, PATCHES.scale(counts)[:13])
    np.testing.assert_allclose(data.train.targets, labels[:13, ::-1] - 5.5, atol=1e-6)  # column first
    assert data.train.inputs.min() == 0
    assert data.train.inputs.max() == 1
    (cached,) = (official / "bragg_peak").glob("official-*.npz")
    before = cached.stat().st_mtime_ns
    assert task.load(official).digest == data.digest
    assert cached.stat().st_mtime_ns == before
    change(official, "peak_row", set_at(8, 20.5))
    assert task.load(official).digest != data.digest


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "npeaks",
            None,
            "The file {path} has no data set npeaks; it holds: deviations, peak_col, peak_fidx, peak_row. "
            "Get the file from {origin} again.",
        ),
        (
            "frames",
            None,
            "The file {path} has no data set frames; it holds: nothing. Get the file from {origin} again.",
        ),
        (
            "peak_col",
            lambda column: column[:7],
            "The file {path} has data sets of shapes {{'peak_fidx': (20,), 'peak_row': (20,), 'peak_col': (7,), "
            "'npeaks': (20,), 'deviations': (20,)}}; allowed: one axis, of the same length, 1 or more. "
            "Get the file from {origin} again.",
        ),
        (
            "frames",
            lambda frames: frames[0],
            "The data set frames of {path} has shape (40, 48); allowed: (frames, rows, columns), none of them 0. "
            "Get the file from {origin} again.",
        ),
        (
            "frames",
            lambda frames: frames[:0],
            "The data set frames of {path} has shape (0, 40, 48); allowed: (frames, rows, columns), none of them 0. "
            "Get the file from {origin} again.",
        ),
        (
            "peak_row",
            set_at(2, np.nan),
            "The file {path} holds NaN or infinite values in peak_row; only finite numbers are allowed. "
            "Get the file from {origin} again.",
        ),
        (
            "frames",
            lambda frames: frames * np.nan,
            "The frames of {path} hold NaN or infinite values around 17 peaks; get it from {origin} again.",
        ),
        (
            "npeaks",
            lambda column: column * 0,
            "The file {path} holds no row with npeaks == 1 and 0 <= deviations < 1; one or more are needed. "
            "Get the file from {origin} again.",
        ),
        (
            "peak_fidx",
            set_at(19, 6),
            "A peak lies on frame 6 near row {row}, column {column}; {frames} has 6 frames of 40 × 48. "
            "Take both files from one version of {origin}.",
        ),
    ],
)
def test_a_malformed_official_file_is_named_and_nothing_is_kept(official, name, values, message):
    with h5py.File(official / "bragg_peak" / OFFICIAL.PEAKS) as file:
        row, column = int(file["peak_row"][19]), int(file["peak_col"][19])
    path = change(official, name, values)
    before = sorted(official.rglob("*"))
    with pytest.raises(DataError) as error:
        plugins.load_task("bragg_peak").load(official)
    frames = official / "bragg_peak" / OFFICIAL.FRAMES
    assert str(error.value) == message.format(path=path, origin=ORIGIN, frames=frames, row=row, column=column)
    assert sorted(official.rglob("*")) == before


@pytest.mark.parametrize("name", [OFFICIAL.FRAMES, OFFICIAL.PEAKS])
def test_a_truncated_official_file_is_refused(official, name):
    path = official / "bragg_peak" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as error:
        plugins.load_task("bragg_peak").load(official)
    assert str(error.value).startswith(f"The file {path} is truncated or no HDF5 file (")
    assert str(error.value).endswith(f"). Get it from {ORIGIN} again.")


def test_one_official_file_without_the_other_is_refused(official):
    folder = official / "bragg_peak"
    (folder / OFFICIAL.PEAKS).unlink()
    with pytest.raises(DataError) as error:
        plugins.load_task("bragg_peak").load(official)
    assert str(error.value) == (
        f"The folder {folder} holds frames-exp4train.hdf5 but not peaks-exp4train-psz11.hdf5; both are needed. "
        f"Get it from {ORIGIN} and put it there."
    )


def cleaned_one_by_one(patch, center):
    """BraggNN's cleaning, spelled out for one patch."""
    seen = np.zeros(patch.shape, bool)
    best, answer, components = np.inf, np.zeros_like(patch), 0
    for start in zip(*np.nonzero(patch), strict=True):
        if seen[start]:
            continue
        components += 1
        stack, members = [start], []
        seen[start] = True
        while stack:
            r, c = stack.pop()
            members.append((r, c))
            for i in range(max(r - 1, 0), min(r + 2, 11)):
                for j in range(max(c - 1, 0), min(c + 2, 11)):
                    if patch[i, j] and not seen[i, j]:
                        seen[i, j] = True
                        stack.append((i, j))
        alone = np.zeros_like(patch)
        alone[tuple(np.array(members).T)] = patch[tuple(np.array(members).T)]
        maxima = [m for m in members if min(m) > 0 and max(m) < 10 and alone[m] == _around(alone, m)]
        if maxima:
            distance = np.hypot(*(np.mean(maxima, axis=0) - center))
            if distance < best:
                best, answer = distance, alone
    return patch if components <= 1 else answer


def _around(patch, pixel):
    r, c = pixel
    return patch[r - 1 : r + 2, c - 1 : c + 2].max()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6))
def test_cleaning_keeps_what_the_published_loop_keeps(seed, density):
    rng = np.random.default_rng(seed)
    counts = rng.random((12, 11, 11)) * (rng.random((12, 11, 11)) < density)
    centers = 5 + rng.random((12, 2))
    expected = [cleaned_one_by_one(patch, center) for patch, center in zip(counts, centers, strict=True)]
    np.testing.assert_array_equal(PATCHES.clean(counts, centers), expected)


def test_scaling_leaves_a_flat_patch_alone():
    counts = np.zeros((2, 11, 11), np.float32)
    counts[0, 5, 5], counts[0, 5, 6] = 4000, 1000
    scaled = PATCHES.scale(counts)
    assert scaled.shape == (2, 11, 11, 1)
    assert (scaled[0, 5, 5, 0], scaled[0, 5, 6, 0]) == (1.0, 0.25)
    assert not scaled[1].any()


@pytest.fixture(scope="module")
def simulated():
    return SIMULATOR.simulate(12_000, 0, 0.12)


def test_the_simulation_has_the_statistics_of_the_official_patches(simulated):
    counts, labels, _ = simulated
    brightest = np.stack(np.divmod(counts.reshape(len(counts), -1).argmax(axis=1), 11), axis=1)
    distance = np.linalg.norm(brightest - labels, axis=1)
    official = np.array([0.112, 0.303, 0.447, 0.578, 0.840])
    np.testing.assert_allclose(np.percentile(distance, [5, 25, 50, 75, 95]), official, atol=0.025)
    non_zero = np.percentile((counts > 0).sum(axis=(1, 2)), [10, 50, 90])
    np.testing.assert_allclose(non_zero, [3, 7.5, 33], atol=1.5)
    floor = TASK.constant_floor_px(labels[:, ::-1] - 5.5)
    assert floor == pytest.approx(0.3825, abs=0.005)


def test_the_simulation_keeps_the_detectors_rules(simulated):
    counts, labels, centers = simulated
    assert counts.shape == (12_000, 11, 11)
    assert counts[counts > 0].min() >= 820
    assert counts.any(axis=(1, 2)).all()
    assert (labels >= 5).all()
    assert (labels < 6).all()
    assert (labels - centers).std() == pytest.approx(0.12, rel=0.03)
    np.testing.assert_array_equal(PATCHES.clean(counts, labels), counts)


def test_equal_seeds_give_equal_patches_and_fewer_are_the_head_of_more(simulated):
    for mine, theirs in zip(SIMULATOR.simulate(5000, 0, 0.12), simulated, strict=True):
        np.testing.assert_array_equal(mine, theirs[:5000])
    assert not np.array_equal(SIMULATOR.simulate(100, 1, 0.12)[0], simulated[0][:100])


def test_without_jitter_labels_are_exact():
    _, labels, centers = SIMULATOR.simulate(200, 0, 0.0)
    np.testing.assert_array_equal(labels, centers)


def test_a_profile_is_the_pixel_average_of_the_rotated_pseudo_voigt():
    along, across, angle, lorentzian = (np.array([v]) for v in (2.0, 0.8, 0.6, 0.3))
    profile = SIMULATOR._profile(np.array([[5.3, 5.8]]), along, across, angle, lorentzian)[0]
    fine = (np.arange(33) + 0.5) / 3 - 0.5
    y, x = np.meshgrid(fine - 5.3, fine - 5.8, indexing="ij")
    u, v = x * np.cos(0.6) + y * np.sin(0.6), y * np.cos(0.6) - x * np.sin(0.6)
    q = (u / 2.0) ** 2 + (v / 0.8) ** 2
    exact = 0.3 / (1 + q) + 0.7 * np.exp2(-q)
    np.testing.assert_allclose(profile, exact.reshape(11, 3, 11, 3).mean(axis=(1, 3)), rtol=1e-4)


def test_a_classical_fit_finds_the_center_of_a_peak_without_noise():
    peak = CLASSICAL.pseudo_voigt(np.array([5.31, 5.84, 1.0, 0.7, 0.2, 0.5, 0.4]))
    peak[peak < 0.05] = 0  # as the detector does
    inputs = (peak / peak.max()).astype(np.float32)[None, ..., None]
    np.testing.assert_allclose(CLASSICAL.fit_centers(inputs), [[0.34, -0.19]], atol=2e-3)


def test_classical_answers_beat_the_constant_by_far(simulated):
    counts, labels, _ = simulated
    inputs, targets = PATCHES.scale(counts[:150]), labels[:150, ::-1] - 5.5
    floor = TASK.constant_floor_px(targets)
    assert TASK.score(CLASSICAL.fit_centers(inputs), targets)["distance_px"] < 0.65 * floor
    assert TASK.score(CLASSICAL.centers_of_mass(inputs), targets)["distance_px"] < 0.65 * floor
    assert not CLASSICAL.fit_centers(np.zeros((1, 11, 11, 1))).any()


def test_a_damaged_or_interrupted_cache_is_made_again(tmp_path):
    path, made = tmp_path / "folder" / "arrays.npz", []

    def make():
        made.append(1)
        return {"a": np.arange(1000)}

    _, digest = CACHE.fetch(path, make)
    assert CACHE.fetch(path, make)[1] == digest
    assert len(made) == 1
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:40] + b"\xff" * 20 + content[60:], b""):
        path.write_bytes(damaged)
        assert CACHE.fetch(path, make)[1] == digest
    assert len(made) == 4

    def interrupted():
        raise KeyboardInterrupt

    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        CACHE.fetch(path, interrupted)
    assert list(tmp_path.rglob("*.npz")) == []


def test_a_full_disk_leaves_no_half_written_cache(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CACHE.np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        CACHE.fetch(tmp_path / "arrays.npz", lambda: {"a": np.arange(3)})
    assert list(tmp_path.iterdir()) == []


def test_each_option_of_the_simulation_has_a_cache_of_its_own(tmp_path):
    digests = [
        plugins.load_task(f"bragg_peak:samples=100{option}").load(tmp_path).digest
        for option in ("", ",seed=1", ",label_jitter_px=0", "")
    ]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]
    assert len(list((tmp_path / "bragg_peak").iterdir())) == 3
    shutil.rmtree(tmp_path / "bragg_peak")
    assert plugins.load_task("bragg_peak:samples=100").load(tmp_path).digest == digests[0]


def test_the_score_is_in_pixels():
    targets = np.zeros((4, 2), np.float32)
    outputs = np.array([[0.3, 0.4], [0, 0], [0, 0.1], [-0.6, 0.8]])
    score = TASK.score(outputs, targets)
    assert score == pytest.approx({"distance_px": 0.4, "distance_p75_px": 0.625, "distance_p95_px": 0.925})


@pytest.mark.parametrize(("name", "parameters"), [("braggnn", 33_172), ("braggnn_nac", 45_274), ("openhls", 3_016)])
def test_the_published_networks_have_their_published_size_and_can_be_built(name, parameters):
    architecture = plugins.load_task("bragg_peak").baselines[name]
    assert architecture.parameters() == parameters
    require_buildable(architecture.layers)


def test_candidates_of_the_default_space_are_small_enough_to_unroll():
    rng = np.random.default_rng(0)
    space = plugins.load_task("bragg_peak").space
    macs = [space.fill(lambda _, choice: int(rng.integers(len(choice.options)))).macs() for _ in range(500)]
    assert max(macs) <= 20_000


def test_the_papers_space_holds_its_choices_and_says_what_is_float_only():
    rng = np.random.default_rng(0)
    task = plugins.load_task("bragg_peak:space=paper")
    fillings = [task.space.fill(lambda _, choice: int(rng.integers(len(choice.options)))) for _ in range(200)]
    float_only = [a for a in fillings if any(layer.float_only for layer in a.layers)]
    assert {a.output_shape for a in fillings} == {(2,)}
    assert float_only
    require_buildable(task.space.fill(lambda *_: 0).layers)  # ReLU, no norm, no block
    for architecture in float_only:
        with pytest.raises(UnsupportedError):
            require_buildable(architecture.layers)
    reasons = " ".join(layer.float_only for a in float_only for layer in a.layers)
    assert "layer norm" in reasons


def test_a_search_of_the_papers_space_trains_and_returns_only_what_can_be_built(tmp_path):
    task = plugins.load_task("bragg_peak:space=paper,lut_limit=0")
    trained = []

    def by_size(architecture, fidelity, seed, number):
        trained.append(architecture)
        return {"distance_px": 1 / architecture.parameters(), "lut_estimate": float(architecture.macs())}

    study = run_study(
        task.space,
        task.objectives,
        by_size,
        trials=8,
        algorithm="random",
        fidelity=Fidelity(1),
        precheck=Evaluator(task.name, task.default_bits, tmp_path).precheck,
        progress=False,
    )
    assert study.front
    assert len(trained) == 8
    assert all(architecture.is_buildable for architecture in trained)
    # one that is given, not drawn, fails
    float_only = Architecture(task.input_shape, (Dense(4, norm="layer"), Dense(2, "identity")))
    with pytest.raises(UnsupportedError, match="cannot be built in hardware"):
        Evaluator(task.name, task.default_bits, tmp_path)(float_only, Fidelity(1), 0, 0)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError) as error:
        plugins.load_task("bragg_peak:space=papers")
    assert str(error.value) == (
        "There is no search space of bragg_peak 'papers'; allowed: buildable, paper, paper_streamed. "
        "Did you mean 'paper'?"
    )
    with pytest.raises(InvalidValueError) as error:
        plugins.load_task("bragg_peak:samples=3")
    assert str(error.value) == (
        "Task bragg_peak received samples=3, label_jitter_px=0.12, lut_limit=60000.0; "
        "allowed: 10 or more samples, a jitter from 0 to below 1 px, a limit of 0 or more."
    )
    assert plugins.load_task("bragg_peak:lut_limit=0").objectives[1].limit is None
