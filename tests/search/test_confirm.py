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
    if number == 104:
        raise ValueError("diverged")
    return {"error": architecture.blocks[0].width + seed / 2**32, "epochs": fidelity.epochs, "number": number}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_member_gets_its_trainings_with_seeds_of_their_own(workers):
    first, second = confirm(FRONT, evaluate, fidelity=FULL, seeds=4, first_number=100, workers=workers)
    assert [c.trial for c in (first, second)] == FRONT
    assert [m["number"] for m in first.metrics] == [100, 101, 102, 103]
    assert [m["number"] for m in second.metrics] == [105, 106, 107]
    assert second.failures[0].startswith("ValueError: diverged")
    errors = [m["error"] for m in first.metrics]
    assert len(set(errors)) == 4
    assert first.mean["error"] == pytest.approx(sum(errors) / 4)
    assert first.std["error"] == pytest.approx((sum((e - sum(errors) / 4) ** 2 for e in errors) / 3) ** 0.5)
    assert first.mean["epochs"] == 7
    assert 5 <= first.mean["error"] < 6 <= 10 <= second.mean["error"] < 11


def test_a_single_training_has_no_spread_and_a_failed_one_no_mean():
    first, _ = confirm(FRONT, evaluate, fidelity=FULL, seeds=1)
    assert first.std == {}
    assert first.mean["error"] >= 5
    (failed,) = confirm(FRONT[:1], evaluate, fidelity=FULL, seeds=1, first_number=104)
    assert failed.mean == {}
    assert len(failed.failures) == 1
    assert confirm([], evaluate, fidelity=FULL) == []


@pytest.mark.parametrize("name", ["seeds", "workers"])
def test_what_is_not_allowed(name):
    with pytest.raises(InvalidValueError, match=rf"^The number of {name} is 0; allowed: 1 or more\.$"):
        confirm(FRONT, evaluate, fidelity=FULL, **{name: 0})
