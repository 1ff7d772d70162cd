"""Laws of fixed-point formats and arithmetic, against exact rational numbers."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.core.errors import InvalidValueError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding, fit, quantize, shift
from tests.strategies import formats

MANTISSAS = st.integers(-(2**40), 2**40)


def rounded(value: Fraction, rounding: Rounding) -> int:
    if rounding is Rounding.FLOOR:
        return floor(value)
    if rounding is Rounding.HALF_UP:
        return floor(value + Fraction(1, 2))
    return round(value)  # Python rounds a Fraction half to even


@given(MANTISSAS, st.integers(-50, 10), st.sampled_from(Rounding))
def test_shift_rounds_as_exact_fractions_do(mantissa, bits, rounding):
    expected = rounded(Fraction(mantissa) * Fraction(2) ** bits, rounding)
    assert shift(np.array([mantissa]), bits, rounding)[0] == expected


@given(MANTISSAS, formats(max_bits=12))
def test_fit_saturates_to_the_nearest_and_wraps_modulo_the_width(mantissa, target):
    saturated = int(fit(np.array([mantissa]), target, Overflow.SATURATE)[0])
    wrapped = int(fit(np.array([mantissa]), target, Overflow.WRAP)[0])
    assert saturated == min(max(mantissa, target.minimum), target.maximum)
    assert target.minimum <= wrapped <= target.maximum
    assert (wrapped - mantissa) % (1 << target.width) == 0


@given(st.floats(-1e6, 1e6), formats(max_bits=16), st.sampled_from(Rounding))
def test_quantize_is_rounding_then_saturation_and_idempotent(value, target, rounding):
    mantissa = int(quantize(np.array([value]), target, rounding, Overflow.SATURATE)[0])
    exact = rounded(Fraction(value) * Fraction(2) ** target.fraction_bits, rounding)
    assert mantissa == min(max(exact, target.minimum), target.maximum)
    again = quantize(Fixed(np.array([mantissa]), target.fraction_bits).to_float(), target, rounding, Overflow.SATURATE)
    assert again[0] == mantissa


@given(st.integers(-(2**50), 2**50), st.integers(0, 2**50), st.integers(-20, 40))
def test_holding_is_the_narrowest_format(minimum, spread, fraction_bits):
    maximum = minimum + spread
    narrowest = FixedPoint.holding(minimum, maximum, fraction_bits)
    assert narrowest.minimum <= minimum
    assert maximum <= narrowest.maximum
    assert narrowest.fraction_bits == fraction_bits
    if narrowest.width:
        narrower = FixedPoint(narrowest.width - 1, narrowest.integer_bits - 1, narrowest.is_signed)
        assert not narrower.minimum <= minimum <= maximum <= narrower.maximum


def test_formats_print_as_ap_fixed_does():
    assert str(FixedPoint(8, 3)) == "fixed<8,3>"
    assert str(FixedPoint(6, -2, is_signed=False)) == "ufixed<6,-2>"
    assert FixedPoint(8, 3).scale == 2.0**-5


@pytest.mark.parametrize("width", [-1, 63])
def test_a_width_outside_of_int64_is_refused(width):
    with pytest.raises(
        InvalidValueError, match=rf"^The width of a fixed-point format is {width}; allowed: 0 to 62 bits\.$"
    ):
        FixedPoint(width, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(
        InvalidValueError, match=r"^A value to be quantized is NaN or infinite; only finite numbers are allowed\.$"
    ):
        quantize(np.array([0.0, value]), FixedPoint(8, 3), Rounding.FLOOR, Overflow.SATURATE)


def test_losing_too_many_bits_is_refused():
    with pytest.raises(
        InvalidValueError, match=r"^The binary point of a value would move by 63 bits; allowed: up to 62\.$"
    ):
        shift(np.array([1]), -63)
