"""A compression job: what fails ends in a trial that says why, and what was made before is kept."""

import pytest

from codesign import network
from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.recipe import CompressionRecipe
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.jobs.compress import Job, require_network, run_job
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


def test_a_compression_that_leaves_nothing_says_why():
    limit = (Objective("lut_estimate", limit=10.0),)
    made = [Trial(i, ARCHITECTURE, 0, Fidelity(1), {"lut_estimate": 30.0 - i}).judged(limit) for i in range(2)]
    failed = Trial(2, ARCHITECTURE, 0, Fidelity(1), failure="no layer is left")
    require_network([Trial(0, ARCHITECTURE, 0, Fidelity(1), {"lut_estimate": 9.0}).judged(limit), failed])
    with pytest.raises(InvalidValueError) as error:
        require_network([*made, failed])
    assert str(error.value) == (
        "None of 2 compressed networks keeps every limit; the last one: lut_estimate is 29, limit 10. Compress more "
        "(sparsity, lut_target), or relax the limits of the search."
    )
    with pytest.raises(InvalidValueError) as error:
        require_network([failed])
    assert str(error.value) == "All 1 compressions failed at their first step. One of them: no layer is left"
