"""Multiplication by constant matrices as adder graphs, found by da4ml's solver."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from da4ml.cmvm import solve
from da4ml.trace import FixedVariable
from da4ml.types import CombLogic, Pipeline, QInterval

from codesign.backends._da4ml_values import HARDWARE, Value, constants

# Larger matrices are solved in parts, in whole columns: the solver's time grows faster than the square of the entries.
# 576 x 32 at 6 bits takes 10 s and 74,119 LUTs whole, 1.0 s and 81,665 in parts; 64 x 64 stays whole.
SOLVED_WHOLE, SOLVED_IN_PARTS = 4608, 2304


class Solver:
    """Solutions for rows of variables, each distinct problem solved once."""

    def __init__(self) -> None:
        self.solutions: dict[Any, Pipeline] = {}

    def multiply(self, row: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return row (inputs,) @ weight (inputs, outputs), exact."""
        is_variable = np.array([isinstance(v, FixedVariable) for v in row])
        fixed = np.array([0 if m else v for v, m in zip(row, is_variable, strict=True)], dtype=object)
        constant = fixed @ weight.astype(object)
        kernel, variables = weight[is_variable], row[is_variable]
        columns = max(1, SOLVED_IN_PARTS // len(kernel)) if kernel.size > SOLVED_WHOLE else weight.shape[1]
        parts = [kernel[:, i : i + columns] for i in range(0, kernel.shape[1], columns)]
        return np.concatenate([self._product(variables, part) for part in parts]) + constant

    def _product(self, variables: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        if not kernel.any():
            return np.zeros(kernel.shape[1], dtype=object)
        intervals = [QInterval(float(v.low), float(v.high), float(v.step)) for v in variables]
        delays = [float(v.latency) for v in variables]
        key = (kernel.shape, kernel.tobytes(), tuple(intervals), tuple(delays))
        if key not in self.solutions:
            self.solutions[key] = solve(
                np.ascontiguousarray(kernel, dtype=np.float32),
                qintervals=intervals,
                latencies=delays,
                adder_size=HARDWARE.adder_size,
                carry_size=HARDWARE.carry_size,
                search_all_decompose_dc=False,
            )
        return constants(reduce(lambda x, graph: _replay(graph, x), self.solutions[key].solutions, variables))


def _replay(graph: CombLogic, inputs: Sequence[Value]) -> np.ndarray:
    """Return the outputs of a solver's adder graph: as da4ml's own replay does, less its multiplications by one."""
    buffer: list[Value] = []
    for op in graph.ops:
        if op.opcode == -1:
            shifted = graph.inp_shifts[op.id0]
            buffer.append(inputs[op.id0] * 2.0**shifted if shifted else inputs[op.id0])
        else:
            assert op.opcode in (0, 1), op
            b = buffer[op.id1] * 2.0**op.data if op.data else buffer[op.id1]
            buffer.append(buffer[op.id0] - b if op.opcode else buffer[op.id0] + b)
    outputs = np.zeros(len(graph.out_idxs), dtype=object)
    for i, (index, bits, is_negative) in enumerate(zip(graph.out_idxs, graph.out_shifts, graph.out_negs, strict=True)):
        if index >= 0:
            y = buffer[index] * 2.0**bits if bits else buffer[index]
            outputs[i] = -y if is_negative else y
    return outputs
