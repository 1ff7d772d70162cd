"""What a search found is trained again with other seeds."""

import pytest

from codesign.blocks.dense import Dense
from codesign.core.architecture import Architecture
from codesign.core.errors import InvalidValueError
from codesign.core.trial import Fidelity, Trial
from codesign.search.confirm import confirm

FULL = Fidelity(7)
FRONT = [Trial(n, Architecture((2,), (Dense(n + 1),)), 0, FULL, {"error": 0.0}) for n in (4, 9)]


def evaluate(architecture, fidelity, seed, number):
    if architecture.blocks[0].width == 10 and seed % 2:
        raise ValueError("diverged")
    return {"error": architecture.blocks[0].width + seed / 2**32, "epochs": fidelity.epochs, "number": number}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_member_gets_its_trainings_with_seeds_of_their_own(workers):
    first, second = confirm(FRONT, evaluate, fidelity=FULL, seeds=4, workers=workers)
    assert [c.trial for c in (first, second)] == FRONT
    assert [m["number"] for m in first.metrics] == [4] * 4
    assert {m["epochs"] for m in (*first.metrics, *second.metrics)} == {7}
    errors = [m["error"] for m in first.metrics]
    assert len(set(errors)) == 4
    assert all(5 <= error < 6 for error in errors)
    assert len(second.metrics) + len(second.failures) == 4
    assert second.failures
    assert all(failure.startswith("ValueError: diverged (test_confirm.py:") for failure in second.failures)


def test_the_order_of_the_front_does_not_matter_and_the_seed_does():
    one, other = (confirm(front, evaluate, fidelity=FULL) for front in (FRONT, FRONT[::-1]))
    assert one == other[::-1]
    assert one != confirm(FRONT, evaluate, fidelity=FULL, seed=1)
    assert confirm([], evaluate, fidelity=FULL) == []


def test_interrupted_it_goes_on_and_repeats_nothing(tmp_path):
    journal, calls = tmp_path / "confirmations.jsonl", []

    def counting(*job):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(job)
        return evaluate(*job)

    with pytest.raises(KeyboardInterrupt):
        confirm(FRONT, counting, fidelity=FULL, seeds=3, journal=journal)
    again = []
    found = confirm(FRONT, lambda *job: again.append(job) or evaluate(*job), fidelity=FULL, seeds=3, journal=journal)
    assert found == confirm(FRONT, evaluate, fidelity=FULL, seeds=3)
    assert len(again) == 2
    assert not set(again) & set(calls)
    longer = confirm(FRONT, evaluate, fidelity=FULL, seeds=4, journal=journal)
    assert longer[0].metrics[:3] == found[0].metrics


@pytest.mark.parametrize("name", ["seeds", "workers"])
def test_what_is_not_allowed(name):
    with pytest.raises(InvalidValueError, match=rf"^The number of {name} is 0; allowed: 1 or more\.$"):
        confirm(FRONT, evaluate, fidelity=FULL, **{name: 0})
