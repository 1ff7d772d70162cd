"""Laws of bus content: packing loses nothing, and the bit order is the one that is stated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.core.bus import bus_bits, pack, unpack


@given(st.integers(0, 45), st.booleans(), st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32))
def test_unpack_undoes_pack(width, is_signed, batch, elements, seed):
    low, high = (-(1 << width) // 2, (1 << width) // 2) if is_signed and width else (0, 1 << width)
    mantissas = np.random.default_rng(seed).integers(low, high, (batch, elements))
    words = pack(mantissas, width)
    assert words.dtype == np.dtype("<u4")
    assert words.shape == (batch, -(-bus_bits((elements,), width) // 32))
    assert np.array_equal(unpack(words, (elements,), width, is_signed), mantissas)


@pytest.mark.parametrize(
    ("mantissas", "width", "words"),
    [
        ([1, 2, 3], 4, [0x321]),
        ([-1, 0, -8], 4, [0x80F]),
        ([5] * 9, 4, [0x55555555, 0x5]),
        ([0x1FF, 1], 31, [0x800001FF, 0]),
        ([0, 0], 0, [0]),
    ],
)
def test_element_0_is_in_the_least_significant_bits(mantissas, width, words):
    assert pack(np.array([mantissas]), width).tolist() == [words]
