"""The graph of bits computes what the network computes, and holds nothing that a synthesis would leave out."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codesign.backends import da4ml
from codesign.backends.bits import BitGraph
from codesign.core.errors import UnsupportedError
from codesign.core.fixed_point import FixedPoint
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Input, Linear, Quantize, Relu
from tests.strategies import ALL, integer_networks, vectors_for

BITWISE = [name for name in ALL if name not in ("Table", "Multiply", "MatMul")]  # the graph does not look into these


def kernel_of(network, cutoff=3):
    return da4ml.kernel(network, cutoff)


def evaluate(graph, kernel, mantissas):
    """Return the output mantissas (vectors, outputs) that the graph's bits say."""
    bits = [np.zeros(len(mantissas), int), np.ones(len(mantissas), int)]
    carries = {}
    for kind, *fields in graph.nodes[2:]:
        match kind:
            case "input":
                element, i = fields
                bits.append(mantissas[:, element] >> (kernel.inputs[element].low + i) & 1)
            case "register":
                bits.append(bits[fields[0]])
            case "not":
                bits.append(1 - bits[fields[0]])
            case "and":
                bits.append(bits[fields[0]] & (1 - bits[fields[1]]))
            case "mux":
                bits.append(np.where(bits[fields[0]], bits[fields[1]], bits[fields[2]]))
            case "chain":
                bits.append(None)
            case "add" | "sub":
                before, a, b, _ = fields
                carry = carries.get(before, before)
                total = bits[a] + (1 - bits[b] if kind == "sub" else bits[b]) + carry
                carries[len(bits)] = total >> 1
                bits.append(total & 1)
            case _:
                assume(False)
    results, position = [], 0
    for count, low, is_signed in kernel.outputs:
        row = [bits[bit].astype(np.int64) for bit in graph.outputs[position : position + count]]
        value = sum((bit << (low + i) for i, bit in enumerate(row)), np.zeros(len(mantissas), np.int64))
        results.append(value - (row[-1] << (low + count)) if is_signed and row else value)
        position += count
    return np.stack(results, axis=-1)


@given(integer_networks(operations=BITWISE, max_bits=4), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_the_graph_computes_what_the_network_computes(network, cutoff):
    try:
        kernel = kernel_of(network, cutoff)
    except UnsupportedError:
        assume(False)
    vectors = vectors_for(network, 40)
    outputs = evaluate(BitGraph(kernel.pipeline), kernel, vectors.reshape(len(vectors), -1))
    assert np.array_equal(outputs, network.emulate(vectors).reshape(len(vectors), -1))


def with_weights(*rows, bits=4):
    return IntegerNetwork((
        Input((), (len(rows),), (FixedPoint(6, 6),)),
        Linear((0,), np.array(rows), np.zeros(len(rows[0]), int), 0, 0),
        Relu((1,)),
        Quantize((2,), (FixedPoint(bits, bits + 2, is_signed=False),)),
    ))  # fmt: skip


def registers(network):
    return sum(kind == "register" for _, (kind, *_) in BitGraph(kernel_of(network).pipeline).living())


def test_equal_results_are_registered_once():
    outputs = BitGraph(kernel_of(with_weights((3, 3, 3), (5, 5, 5))).pipeline).outputs
    assert outputs == 3 * outputs[: len(outputs) // 3]


def test_bits_that_nothing_reads_are_gone():
    everything = registers(with_weights((3,), (5,), bits=8))
    assert registers(with_weights((3,), (5,), bits=4)) < everything < kernel_of(with_weights((3,), (5,), bits=8)).ff + 1


@pytest.mark.parametrize("is_sub", [False, True])
def test_a_chain_begins_where_a_carry_can_arise(is_sub):
    graph = BitGraph(kernel_of(with_weights((3,), (5,))).pipeline)
    a, b = [graph.node("input", 9, i) for i in range(4)], [0, 0, *(graph.node("input", 8, i) for i in range(2))]
    bits = graph.add(a, b, is_sub)
    assert bits[:2] == a[:2]
    kind, chain = "sub" if is_sub else "add", graph.node("chain", tuple(a[2:]), tuple(b[2:]), is_sub)
    assert graph.nodes[bits[2]] == (kind, int(is_sub), a[2], b[2], chain)
    assert graph.nodes[bits[3]] == (kind, bits[2], a[3], b[3], chain)
    assert graph.add(a, b, is_sub) == bits
