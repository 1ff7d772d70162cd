"""Evidence tells what differs, where, and keeps one view's failure from hiding the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codesign.backends import da4ml
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Quantize, Relu
from codesign.synthesis.evidence import View, check_view, compare
from codesign.synthesis.vectors import golden_vectors


def network(weight=3):
    return IntegerNetwork(
        (
            Input((), (2,), (FixedPoint(6, 3),)),
            Linear((0,), np.array([[weight, -2], [-5, 7]]), np.array([1, -1]), 2, 2),
            Relu((1,)),
            Quantize((2,), (FixedPoint(5, 3),)),
        )
    )


def emulated(part, mantissas, folder):
    return part.emulate(mantissas)


def wrong_relu(part, mantissas, folder):
    """A view that lets the smallest negative numbers through."""
    results = part.trace(mantissas)
    if len(results) < 3:
        return results[-1].mantissa
    before = results[1].mantissa
    relu = np.where(before == -1, -1, results[2].mantissa)
    return relu if len(results) == 3 else part.operations[3].compute(results[2]._replace(mantissa=relu)).mantissa


@given(st.integers(1, 30), st.integers(0, 29), st.integers(0, 3), st.integers(1, 1000))
def test_one_wrong_number_is_found_and_named(vectors, row, column, offset):
    expected = np.arange(vectors * 4).reshape(vectors, 2, 2)
    received = expected.copy()
    if row < vectors:
        received.reshape(vectors, -1)[row, column] += offset
    found = compare("rtl", "tool 1", expected, received)
    assert (found.view, found.tool, found.vectors) == ("rtl", "tool 1", vectors)
    assert found.is_exact == (row >= vectors)
    if not found.is_exact:
        value = expected.reshape(vectors, -1)[row, column]
        assert found.mismatches == 1
        assert found.first_mismatch == f"vector {row}, output {column}: {value + offset} instead of {value}"


def test_another_shape_is_a_mismatch_of_everything():
    found = compare("rtl", "tool", np.zeros((5, 2), dtype=int), np.zeros((5, 3), dtype=int))
    assert (found.mismatches, found.first_mismatch) == (5, "outputs of shape (5, 3) instead of (5, 2)")


def test_views_that_agree_are_exact(tmp_path):
    net = network()
    views = [View("emulator", "numpy", emulated), View("graph", da4ml.TOOL, lambda n, x, _: da4ml.interpret(n, x))]
    found = [check_view(net, golden_vectors(net), view, tmp_path) for view in views]
    assert [e.view for e in found] == ["emulator", "graph"]
    assert all(e.is_exact and e.vectors >= 1000 and not e.first_mismatch for e in found)


def test_a_view_that_differs_names_the_step_where_it_goes_astray(tmp_path):
    net = network()
    found = check_view(net, golden_vectors(net), View("bad", "tool", wrong_relu, wrong_relu), tmp_path)
    assert not found.is_exact
    assert found.mismatches > 0
    assert "first wrong is step 2 (Relu), vector " in found.first_mismatch
    assert ": -1 instead of 0" in found.first_mismatch


def test_one_flipped_weight_is_caught(tmp_path):
    net, other = network(3), network(4)
    view = View("other", "tool", lambda n, x, _: da4ml.interpret(other, x))
    found = check_view(net, golden_vectors(net), view, tmp_path)
    assert found.mismatches > 0


def test_a_view_that_cannot_run_says_why(tmp_path):
    def refuse(part, mantissas, folder):
        raise UnsupportedError("Step 1 (Linear) is too odd.")

    net = network()
    found = check_view(net, golden_vectors(net), View("a", "t", refuse), tmp_path)
    assert (found.vectors, found.is_exact) == (0, False)
    assert found.first_mismatch == "the view could not be run: Step 1 (Linear) is too odd."


def test_what_a_view_counts_beside_its_outputs_is_kept(tmp_path):
    net = network()
    view = View("rtl", "t", lambda n, x, _: (n.emulate(x), {"ii": 3.0}))
    found = check_view(net, golden_vectors(net), view, tmp_path)
    assert found.is_exact
    assert found.details == {"ii": 3.0}
