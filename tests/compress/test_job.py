"""A compression job: what fails ends in a trial that says why, and what was made before is kept."""

from codesign import network
from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.integer_network import IntegerNetwork
from codesign.core.recipe import CompressionRecipe
from codesign.core.trial import Fidelity, Trial
from codesign.jobs.compress import Job, run_job
from codesign.jobs.evaluate import Evaluator

ARCHITECTURE = Architecture((8, 3), (Dense(6), Dense(5, "identity")))


def test_a_target_beyond_reach_keeps_the_steps_before_it(tmp_path):
    network.save_network(tmp_path / "model", ARCHITECTURE, network.build(ARCHITECTURE, 0))
    recipe = CompressionRecipe("learned", lut_target=1.0, steps=1, epochs=1)
    candidate = Trial(3, ARCHITECTURE, 0, Fidelity(1))
    job = Job("jet_classification", tmp_path / "model", recipe, candidate, 0, 0, "cpu", tmp_path / "job")
    (finished, files), (failed, empty) = run_job(job)
    assert finished.metrics["search_trial"] == 3
    assert finished.metrics["lut_estimate"] > 1
    assert IntegerNetwork.load(files).output_shape == (5,)
    assert "no output of the network depends on its input" in failed.failure
    assert empty.is_dir()


def test_hyperparameters_are_tuned_before(tmp_path):
    network.save_network(tmp_path / "model", ARCHITECTURE, network.build(ARCHITECTURE, 0))
    recipe = CompressionRecipe("uniform", epochs=1)
    candidate = Trial(0, ARCHITECTURE, 0, Fidelity(1))
    untuned, tuned = (
        run_job(Job("jet_classification", tmp_path / "model", recipe, candidate, n, 0, "cpu", tmp_path / f"job-{n}"))
        for n in (0, 2)
    )
    assert tuned[0][0].metrics["error"] != untuned[0][0].metrics["error"]


def test_a_joint_search_counts_what_is_left_after_compression():
    architecture = Architecture((8, 3), (Dense(16, norm="batch"), Dense(5, "identity")))
    separate, joint = (
        Evaluator("jet_classification", 8, device="cpu", is_joint=flag)(architecture, Fidelity(1), 0, 0)
        for flag in (False, True)
    )
    assert set(separate) == set(joint)
    assert joint["lut_estimate"] <= 0.5 * separate["lut_estimate"]
    assert "lut_estimate" not in Evaluator("jet_classification", 8, is_joint=True).precheck(architecture)
