"""The calibrated estimate: published errors follow from published designs, and every number has its interval."""

import json
from pathlib import Path

import numpy as np
import pytest

from codesign.backends import calibrated
from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Quantize, Relu

PUBLISHED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "calibration.json").read_text())
FAMILIES = list(calibrated.load()["families"])


def network(width=4, bits=5):
    rng = np.random.default_rng(2)
    return IntegerNetwork((
        Input((), (4,), (FixedPoint(bits, 2),)),
        Linear((0,), rng.integers(-7, 8, (4, width)), rng.integers(-9, 9, width), 3, 5),
        Relu((1,)),
        Quantize((2,), (FixedPoint(bits, 3, is_signed=False),)),
        Linear((3,), rng.integers(-7, 8, (width, 2)), rng.integers(-9, 9, 2), 3, 5),
    ))  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["lut", "ff"])
def test_the_published_error_is_that_of_the_shipped_coefficients_on_the_published_designs(family, name):
    unseen = [design for design in PUBLISHED["designs"][family] if design["seed"] == 1]
    model = calibrated.load()["families"][family][name]
    errors = [calibrated.predict(design, model) / design[f"{name}_synthesis"] - 1 for design in unseen]
    summary = PUBLISHED["summary"][f"{name.upper()}, {family}"]
    assert 100 * np.mean(np.abs(errors)) == pytest.approx(summary["mape_percent"])
    assert len(unseen) == summary["judged_on"] >= 20
    inside = np.mean([1 / (1 + model["error"]) <= 1 + e <= 1 + model["error"] for e in errors])
    assert inside >= 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_lies_in_its_interval(family):
    result = calibrated.estimate(network(), family, cutoff=2)
    for interval in filter(None, (result.lut, result.ff, result.routed_lut, result.fmax_mhz)):
        assert 0 < interval.low < interval.value < interval.high
    assert result.resources.level == "estimate"
    assert result.resources.tool.endswith("calibrated on Yosys 0.70")
    assert (result.resources.lut, result.resources.ff) == (result.lut.value, result.ff.value)


def test_more_neurons_and_more_bits_take_more_luts():
    luts = [calibrated.estimate(network(*size), "xcup").lut.value for size in ((4, 4), (8, 4), (8, 6))]
    assert luts == sorted(luts)
    assert luts[0] < luts[2]


def test_fewer_registers_make_longer_paths():
    shallow, deep = (calibrated.counts(network(), "ecp5", cutoff) for cutoff in (1, 8))
    assert shallow["ff"] > deep["ff"]
    assert shallow["depth"] < deep["depth"]


def test_a_family_without_calibration_is_refused():
    with pytest.raises(InvalidValueError) as error:
        calibrated.estimate(network(), "ice40")
    assert str(error.value) == "The family 'ice40' has no calibration; allowed: xcup, xc7, ecp5."
