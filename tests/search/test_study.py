"""A study on a real space with an evaluation that takes no time."""

import json
import math
import os
import signal
from dataclasses import dataclass, replace

import numpy as np
import pytest

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError, ToolError, UnknownNameError
from codesign.core.space import Repeat, SearchSpace, one_of, ordered
from codesign.core.task import Objective
from codesign.core.trial import Fidelity, Trial
from codesign.search.halving import Halving, halving
from codesign.search.space import sample
from codesign.search.study import Study, run_study

SPACE = SearchSpace((4,), (Repeat(Dense(ordered(2, 4, 8, 16), one_of("relu", "identity")), (0, 1, 2, 3)), Dense(3)))
TINY = SearchSpace((4,), (one_of(None, Dense(ordered(2, 4)), Dense(2)), Dense(3)))  # 4 fillings, 3 architectures
OBJECTIVES = (Objective("error"), Objective("macs"))
FULL = Fidelity(9)


def evaluate(architecture, fidelity, seed, number):
    """Return an error that falls with size and epochs."""
    error = 1 / (1 + math.log(architecture.parameters())) + 0.1 / fidelity.epochs
    return {"error": error, "macs": architecture.macs(), "number": number, "seed": seed}


def macs(architecture):
    return {"macs": architecture.macs()}


def study(space=SPACE, objectives=OBJECTIVES, evaluation=evaluate, trials=20, algorithm="nsga2", **options):
    options = {"fidelity": FULL, "progress": False} | options
    return run_study(space, objectives, evaluation, trials=trials, algorithm=algorithm, **options)


def digests(found):
    return [t.architecture.digest for t in found.trials]


def test_a_study_returns_as_many_different_architectures_as_asked_and_their_front():
    found = study(trials=40)
    assert len(set(digests(found))) == 40
    assert [t.number for t in found.trials] == list(range(40))
    assert [t.metrics["number"] for t in found.trials] == list(range(40))
    for trial in found.trials:
        assert SPACE.fill_from(dict(trial.choices)) == trial.architecture
        assert trial.seed == trial.metrics["seed"]
        assert trial.fidelity == FULL
    assert len({t.seed for t in found.trials}) == 40
    costs = [(t.metrics["error"], t.metrics["macs"]) for t in found.front]
    assert costs == sorted(costs)
    assert [m for _, m in costs] == sorted((m for _, m in costs), reverse=True)


@pytest.mark.parametrize("algorithm", ["random", "portfolio"])
def test_the_seed_decides(algorithm):
    one, same, other = (study(seed=s, algorithm=algorithm, trials=30) for s in (1, 1, 2))
    assert one == same
    assert digests(one) != digests(other)


def test_two_workers_do_the_same_work():
    found = study(trials=12, workers=2, algorithm="random")
    assert set(digests(found)) == set(digests(study(trials=12, algorithm="random")))


def test_the_known_metrics_keep_what_breaks_a_limit_from_training():
    limits = (Objective("error"), Objective("macs", limit=100))
    free, checked = study(objectives=limits, trials=40), study(objectives=limits, trials=40, precheck=macs)
    assert any(not t.is_feasible for t in free.trials)
    assert free.saved == {}
    assert all(t.is_feasible for t in checked.trials)
    assert checked.saved["limit"] > 5


def test_what_is_certainly_dominated_is_not_trained():
    perfect = Architecture((4,), (Dense(3),))
    found = study(
        evaluation=lambda *job: evaluate(*job) | {"error": 0.0},
        enqueue=[perfect],
        precheck=macs,
        bounds={"error": 0.0},
        trials=5,
    )
    assert digests(found) == [perfect.digest]  # nothing costs less, and no error is smaller
    assert found.is_exhausted
    assert set(found.saved) == {"dominated"}


def test_limits_of_metrics_that_are_measured_are_learned():
    found = study(objectives=(Objective("error"), Objective("macs", limit=60)), trials=60)
    late = [t.is_feasible for t in found.trials[-20:]]
    early = [t.is_feasible for t in found.trials[:16]]
    assert np.mean(late) > np.mean(early)
    assert found.trials[0].violations == () or found.trials[0].violations[0].startswith("macs is ")
    assert all(t.metrics["macs"] <= 60 for t in found.front)


def test_given_architectures_come_first_also_from_outside_of_the_space():
    inside, outside = Architecture((4,), (Dense(16), Dense(3))), Architecture((4,), (Dense(77), Dense(3)))
    found = study(enqueue=[outside, inside, outside], trials=6)
    assert digests(found)[:2] == [outside.digest, inside.digest]
    assert len(set(digests(found))) == 6
    assert found.trials[0].choices == {}
    assert found.trials[1].choices == {"0": 1, "0.0.width": 3, "0.0.activation": 0}


@pytest.mark.parametrize("algorithm", ["random", "portfolio"])
def test_a_tiny_space_ends_when_all_is_tried(algorithm):
    found = study(TINY, trials=50, algorithm=algorithm)
    assert len(found.trials) == len(set(digests(found))) == 3
    assert found.is_exhausted
    assert study(TINY, trials=50, workers=2, algorithm=algorithm).is_exhausted


def test_a_space_of_one_architecture():
    found = study(SearchSpace((4,), (Dense(3),)), trials=3, algorithm="portfolio")
    assert len(found.trials) == 1
    assert found.is_exhausted


def test_earlier_trials_are_not_repeated_but_their_front_is():
    earlier = study(trials=30)
    found = study(trials=30, history=earlier.trials, seed=5)
    again = [t.architecture.digest for t in earlier.front]
    assert digests(found)[: len(again)] == again
    assert not set(digests(found)[len(again) :]) & set(digests(earlier))


def test_earlier_trials_of_another_space_or_with_other_limits_still_teach():
    earlier = study(trials=20)
    foreign = [replace(t, choices={"no": 1}) for t in earlier.trials]
    limited = (Objective("error"), Objective("macs", limit=100))
    assert study(objectives=limited, history=foreign, trials=10) == study(
        objectives=limited, history=earlier.trials, trials=10
    )
    other = (Objective("error"), Objective("latency"))
    assert study(evaluation=lambda *j: evaluate(*j) | {"latency": 1}, objectives=other, history=earlier.trials).trials


def test_a_failure_is_a_trial_and_is_tried_twice_unless_it_was_on_purpose():
    calls = []

    def fragile(architecture, fidelity, seed, number):
        calls.append(number)
        if number == 2:
            raise RuntimeError("out of memory")
        if number == 3:
            raise ToolError("The tool is missing.")
        if number == 4:
            return evaluate(architecture, fidelity, seed, number) | {"error": math.nan}
        if number == 5 and calls.count(5) == 1:
            raise RuntimeError("only once")
        return evaluate(architecture, fidelity, seed, number)

    found = study(evaluation=fragile, trials=8)
    assert calls == [0, 1, 2, 2, 3, 4, 5, 5, 6, 7]
    failures = {t.number: t.failure for t in found.trials if t.failure}
    assert set(failures) == {2, 3, 4}
    assert failures[2].startswith("RuntimeError: out of memory (test_study.py:")
    assert failures[3] == "The tool is missing."
    assert failures[4] == "The metric error is not finite."
    assert all(found.trials[n].metrics == {} for n in failures)
    assert sum(found.failures.values()) == 3
    assert not {t.number for t in found.front} & set(failures)


@dataclass(frozen=True)
class Killer:
    """Kills its process in trial 2, and once, by a file, in trial 4."""

    folder: str

    def __call__(self, architecture, fidelity, seed, number):
        mark = os.path.join(self.folder, "killed")  # noqa: PTH118
        if number == 2 or (number == 4 and not os.path.exists(mark)):  # noqa: PTH110
            if number == 4:
                open(mark, "w").close()  # noqa: PTH123
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluate(architecture, fidelity, seed, number)


def test_a_worker_that_dies_costs_one_retry(tmp_path):
    found = study(evaluation=Killer(str(tmp_path)), trials=8, workers=2)
    assert {t.number: t.failure for t in found.trials if t.failure} == {2: "The worker process ended by SIGKILL."}
    assert len(found.trials) == 8


def test_every_trial_is_handed_over_as_it_ends():
    seen = []
    found = study(on_trial=seen.append, trials=10)
    assert tuple(seen) == found.trials


def test_halving_trains_most_architectures_a_little_and_some_in_full():
    plan = replace(halving(FULL, rungs=3, eta=3), control=0.0)
    baseline = Architecture((4,), (Dense(3),))
    found = study(halving=plan, trials=40, enqueue=[baseline])
    counts = [sum(t.fidelity == rung for t in found.trials) for rung in plan.rungs]
    assert counts[0] == 39
    assert counts[0] // 3 <= counts[1] <= 13 + 5
    assert 2 <= counts[2] <= 9
    assert found.trials[0].architecture == baseline
    assert found.trials[0].fidelity == FULL
    assert all(t.fidelity == FULL for t in found.front)
    assert len(set(digests(found))) == 40
    runs = {(t.architecture.digest, t.fidelity) for t in found.trials}
    assert len(runs) == len(found.trials)


def test_a_control_is_trained_in_full_at_once():
    assert all(t.fidelity == FULL for t in study(halving=Halving((Fidelity(1), FULL), control=1.0), trials=10).trials)
    mixed = study(halving=Halving((Fidelity(1), FULL), eta=100, control=0.25), trials=60)
    assert 6 <= sum(t.fidelity == FULL for t in mixed.trials) <= 24


def test_an_objective_that_no_metric_gives():
    with pytest.raises(InvalidValueError) as caught:
        study(objectives=(Objective("eror"), Objective("macs")))
    assert str(caught.value) == "Objective 'eror' is no metric of a trial; allowed: error, macs, number, seed."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "The number of trials is 0; allowed: 1 or more."),
        ({"trials": -3}, "The number of trials is -3; allowed: 1 or more."),
        ({"workers": 0}, "The number of workers is 0; allowed: 1 or more."),
        ({"time_limit_s": 0}, "The time limit is 0 s; allowed: above 0, or none."),
        ({"objectives": ()}, "There are 0 objectives (); allowed: 1 to 4."),
        (
            {"objectives": tuple(map(Objective, "abcde"))},
            "There are 5 objectives (a, b, c, d, e); allowed: 1 to 4.",
        ),
        (
            {"objectives": (Objective("a", limit=1), Objective("a", "max", limit=2))},
            "The metric a is stated 2 times (min a <= 1; max a >= 2); state it once, with one limit.",
        ),
        (
            {"halving": Halving((Fidelity(1), Fidelity(3)))},
            "The last rung of halving is Fidelity(epochs=3, data_fraction=1.0); "
            "it must be the full Fidelity(epochs=9, data_fraction=1.0).",
        ),
    ],
)
def test_what_is_not_allowed_is_said_before_anything_runs(options, message):
    def never(*_):
        raise AssertionError("nothing runs")

    with pytest.raises(InvalidValueError) as caught:
        study(evaluation=never, **options)
    assert str(caught.value) == message


def test_a_mistyped_algorithm_is_named():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'nsga2'\?$"):
        study(algorithm="nsga")


def test_a_limit_that_no_architecture_keeps():
    with pytest.raises(InvalidValueError) as caught:
        study(TINY, objectives=(Objective("error"), Objective("macs", limit=1)), precheck=macs)
    assert str(caught.value).startswith(
        "No architecture of the space can be tried; 3 were looked at, and most were refused so: limit: macs is "
    )


def test_a_precheck_that_cannot_build_anything():
    def unbuildable(architecture):
        raise ToolError("The tool is missing.")

    with pytest.raises(InvalidValueError, match=r"most were refused so: invalid: The tool is missing\.$"):
        study(TINY, precheck=unbuildable)


def test_an_empty_front_is_explained():
    found = study(objectives=(Objective("error"), Objective("macs", limit=11)), trials=5)
    with pytest.raises(InvalidValueError) as caught:
        found.require_front()
    nearest = min(found.trials, key=lambda t: t.metrics["macs"])
    assert str(caught.value) == (
        f"None of 5 finished trials is feasible; the nearest is trial {nearest.number}: "
        f"macs is {nearest.metrics['macs']:g}, limit 11. Relax the limit, or allow more trials."
    )

    def broken(*_):
        raise ToolError("The tool is missing.")

    with pytest.raises(InvalidValueError, match=r"^All 3 trials failed, 3 of them so: The tool is missing\.$"):
        study(evaluation=broken, trials=3).require_front()
    assert study(trials=3).require_front()


def test_only_trials_at_full_fidelity_make_the_front():
    architecture = SPACE.fill_from(sample(SPACE, np.random.default_rng(0)))
    low = Trial(0, architecture, 0, Fidelity(1), {"error": 0.1, "macs": 1})
    with pytest.raises(InvalidValueError, match="it was trained at a smaller fidelity only"):
        Study((replace(low, is_partial=True),), OBJECTIVES, FULL, {}).require_front()


def test_the_journal_is_lines_of_json(tmp_path):
    path = tmp_path / "journal.jsonl"
    found = study(trials=5, journal=path)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [e["event"] for e in events] == ["study", *["ask", "tell", "seen"] * 5]
    assert tuple(Trial.from_json(e["trial"]) for e in events if e["event"] == "tell") == found.trials
