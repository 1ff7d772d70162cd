"""Golden vectors: input mantissas with the output mantissas that every view of a network must give for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.core.errors import InvalidValueError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.operations import Linear, finest, grid_ends

MINIMUM_COUNT = 1000


@dataclass(frozen=True, eq=False)
class GoldenVectors:
    """Integers are the truth; divide by 2^fraction_bits of input and output format to get real numbers.

    Attributes:
        inputs: Input mantissas, int64 (vectors, *input_shape).
        outputs: Output mantissas of the integer emulator, int64 (vectors, *output_shape).
    """

    inputs: np.ndarray
    outputs: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    def save(self, path: Path) -> Path:
        """Write the vectors as .npz, the same bytes for the same vectors, and return the path."""
        with path.open("wb") as file:
            np.savez_compressed(file, inputs=self.inputs, outputs=self.outputs)
        return path


def golden_vectors(
    network: IntegerNetwork, data: np.ndarray | None = None, count: int = MINIMUM_COUNT, seed: int = 0
) -> GoldenVectors:
    """Return edge rows and `count` further rows: of real `data` as far as it goes, then random.

    Args:
        network: The network that gives the outputs.
        data: Real inputs (rows, *input_shape), or None.
        count: Rows beside the edge rows; at least 1.
        seed: Of the random rows.

    Raises:
        InvalidValueError: The count is not positive.
    """
    if count < 1:
        raise InvalidValueError(f"The count of golden vectors is {count}; allowed: 1 or more.")
    rows = [edge_rows(network, seed)]
    taken = 0
    if data is not None and len(data):
        rows.append(network.quantize_input(data[:count]))
        taken = len(rows[-1])
    if taken < count:
        rows.append(random_rows(network, count - taken, seed))
    inputs = np.concatenate(rows)
    return GoldenVectors(inputs, network.emulate(inputs))


def random_rows(network: IntegerNetwork, count: int, seed: int) -> np.ndarray:
    """Return mantissas (count, *input_shape), each uniform over its format."""
    generator = np.random.default_rng(seed)
    formats, shape = network.input.formats, network.input_shape
    grid = finest(formats)
    columns = [
        generator.integers(f.minimum, f.maximum + 1, (count, *shape[: len(shape) - (len(formats) > 1)]))
        << (grid - f.fraction_bits if f.width else 0)
        for f in formats
    ]
    return columns[0] if len(formats) == 1 else np.stack(columns, axis=-1)


def edge_rows(network: IntegerNetwork, seed: int = 0, corners: int = 16) -> np.ndarray:
    """Return rows where arithmetic breaks first.

    These are zero, all minimum, all maximum, one step beside zero, random corners of the input box, and, for up to
    `corners` outputs of every linear operation on the raw input, the corner that drives this output highest and lowest
    (it saturates what follows, if anything does). A host that saturates real inputs yields minimum and maximum.
    """
    generator = np.random.default_rng([seed, 1])
    shape, formats = network.input_shape, network.input.formats
    low, high = (grid_ends(formats, shape, end).astype(np.int64) for end in ("minimum", "maximum"))
    step = np.broadcast_to([1 << (finest(formats) - f.fraction_bits) if f.width else 0 for f in formats], shape)
    zero = np.zeros_like(low)
    rows = [zero, low, high, np.minimum(step, high), np.maximum(-step, low)]
    rows += list(np.where(generator.random((corners, *shape)) < 0.5, low, high))
    for operation in network.operations:
        if isinstance(operation, Linear) and operation.inputs == (0,):
            for weight in operation.weight.T[:corners]:
                rows += [np.where(weight > 0, high, low), np.where(weight > 0, low, high)]
    return np.stack(rows)
