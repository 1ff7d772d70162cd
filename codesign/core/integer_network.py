"""The one truth after compression: integer weights, fixed-point formats, rounding and saturation, nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from codesign.core.emulator import Step, prepare, run
from codesign.core.errors import DataError, InvalidValueError, UnsupportedError
from codesign.core.fixed_point import Fixed, FixedPoint, Overflow, Rounding, quantize
from codesign.core.operations import OPERATIONS, Input, Operation, Range, finest

LIMIT = 1 << 60  # every mantissa stays below, so that int64 never overflows, rounding included
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A network of exact integer operations in static single assignment: step i takes results of steps before it.

    Step 0 is the `Input`; the last step is the output. The Python emulator (`emulate`), the QONNX file, the hls4ml
    project, the RTL and the golden vectors are views of this record, held equal bit for bit by tests.

    Raises:
        InvalidValueError: A step refers to a later one, takes the wrong number of inputs, or shapes do not fit.
        UnsupportedError: A mantissa could reach 2^60, beyond what int64 arithmetic holds safely.
    """

    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        if not self.operations or not isinstance(self.operations[0], Input):
            raise InvalidValueError("An integer network begins with an Input operation; received none.")
        for i, operation in enumerate(self.operations):
            if len(operation.inputs) != operation.arity or any(not 0 <= j < i for j in operation.inputs):
                raise InvalidValueError(
                    f"Step {i} ({type(operation).__name__}) takes inputs {operation.inputs}; "
                    f"allowed: {operation.arity} of the steps before it."
                )
        _ = self.ranges

    @property
    def input(self) -> Input:
        """The first step."""
        assert isinstance(self.operations[0], Input)
        return self.operations[0]

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        """Exact range of every step's result; the proof that int64 does not overflow."""
        ranges: list[Range] = []
        for i, operation in enumerate(self.operations):
            exact = [Range(ranges[j].low.astype(object), ranges[j].high.astype(object), ranges[j].fraction_bits)
                     for j in operation.inputs]  # fmt: skip
            try:
                bound = operation.bound(*exact)
            except (ValueError, IndexError) as error:
                shapes = ", ".join(str(r.shape) for r in exact)
                raise InvalidValueError(
                    f"Step {i} ({type(operation).__name__}) cannot take an input of shape {shapes}: {error}."
                ) from error
            largest = max(abs(int(bound.low.min())), abs(int(bound.high.max())))
            if largest >= LIMIT:
                raise UnsupportedError(
                    f"Step {i} ({type(operation).__name__}) needs {largest.bit_length()} bits; "
                    f"allowed: {LIMIT.bit_length() - 1}. Quantize its input to fewer bits."
                )
            ranges.append(Range(bound.low.astype(np.int64), bound.high.astype(np.int64), bound.fraction_bits))
        return tuple(ranges)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input without the batch."""
        return self.input.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output without the batch."""
        return self.ranges[-1].shape

    @property
    def output_format(self) -> FixedPoint:
        """The narrowest format that holds every output."""
        return self.ranges[-1].format()

    def quantize_input(self, values: np.ndarray) -> np.ndarray:
        """Return the mantissas (int64) of real inputs (batch, *input_shape): the host's rounding and saturation."""
        values = np.asarray(values, dtype=np.float64)
        if values.shape[1:] != self.input_shape:
            raise InvalidValueError(
                f"The network received inputs of shape {values.shape}; allowed: (batch, *{self.input_shape})."
            )
        formats, rounding, grid = self.input.formats, self.input.rounding, finest(self.input.formats)
        if len(formats) == 1:
            return quantize(values, formats[0], rounding, Overflow.SATURATE)
        columns = [quantize(values[..., i], f, rounding, Overflow.SATURATE) << (grid - f.fraction_bits) if f.width
                   else np.zeros(values.shape[:-1], dtype=np.int64) for i, f in enumerate(formats)]  # fmt: skip
        return np.stack(columns, axis=-1)

    def emulate(self, mantissas: np.ndarray) -> np.ndarray:
        """Return the output mantissas (batch, *output_shape), int64, of input mantissas (batch, *input_shape).

        Raises:
            InvalidValueError: A mantissa is outside of its input format.
        """
        mantissas, bounds = np.asarray(mantissas, dtype=np.int64), self.ranges[0]
        if ((mantissas < bounds.low) | (mantissas > bounds.high)).any():
            raise InvalidValueError(
                f"An input mantissa is outside of its format, between {mantissas.min()} and {mantissas.max()}; "
                "round and saturate real inputs by `quantize_input`."
            )
        steps = self._steps
        return run(steps, self.ranges, mantissas) if steps else self.trace(mantissas)[-1].mantissa

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        return prepare(self.operations, self.ranges)

    def trace(self, mantissas: np.ndarray) -> list[Fixed]:
        """Run the network and return the result of every step, to find the first that differs from another view."""
        results = [Fixed(np.asarray(mantissas, dtype=np.int64), self.ranges[0].fraction_bits)]
        for operation in self.operations[1:]:
            results.append(operation.compute(*(results[j] for j in operation.inputs)))
        return results

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Return real outputs (float64) for real inputs (batch, *input_shape), through the hardware's integers."""
        output = self.emulate(self.quantize_input(values))
        return Fixed(output, self.ranges[-1].fraction_bits).to_float()

    @cached_property
    def digest(self) -> str:
        """sha256 of the network's content, the same on every machine."""
        text, arrays = self.encode()
        digest = hashlib.sha256(text.encode())
        for name in sorted(arrays):
            digest.update(name.encode() + str(arrays[name].shape).encode() + arrays[name].astype("<i8").tobytes())
        return digest.hexdigest()

    def encode(self) -> tuple[str, dict[str, np.ndarray]]:
        """Return the network as canonical JSON text and the integer arrays it names."""
        steps, arrays = [], {}
        for i, operation in enumerate(self.operations):
            step: dict[str, Any] = {"operation": type(operation).__name__, "inputs": list(operation.inputs)}
            for name, value in operation.options().items():
                if isinstance(value, np.ndarray):
                    arrays[f"{i}.{name}"] = value
                elif name == "formats":
                    step[name] = [[f.width, f.integer_bits, f.is_signed] for f in value]
                else:
                    step[name] = value
            steps.append(step)
        return json.dumps({"schema": SCHEMA, "steps": steps}, sort_keys=True, indent=1), arrays

    @classmethod
    def decode(cls, text: str, arrays: dict[str, np.ndarray]) -> IntegerNetwork:
        """Return the network that `encode` wrote.

        Raises:
            DataError: The text is of another schema or names an operation that does not exist.
        """
        content = json.loads(text)
        if content.get("schema") != SCHEMA:
            raise DataError(f"An integer network of schema {content.get('schema')!r} was received; allowed: {SCHEMA}.")
        operations = []
        for i, step in enumerate(content["steps"]):
            options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in step.items()}
            options.pop("operation")
            name = step["operation"]
            if name not in OPERATIONS:
                raise DataError(
                    f"Step {i} of an integer network is {name!r}; allowed: {', '.join(sorted(OPERATIONS))}."
                )
            if "formats" in options:
                options["formats"] = tuple(FixedPoint(*f) for f in options["formats"])
            if "rounding" in options:
                options["rounding"] = Rounding(options["rounding"])
            if "overflow" in options:
                options["overflow"] = Overflow(options["overflow"])
            options |= {key.split(".", 1)[1]: a for key, a in arrays.items() if key.split(".", 1)[0] == str(i)}
            operations.append(OPERATIONS[name](**options))
        return cls(tuple(operations))

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write network.json and network.npz into `folder` (the same bytes for the same network) and return them."""
        text, arrays = self.encode()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "network.json").write_text(text)
        with zipfile.ZipFile(folder / "network.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(arrays):
                buffer = io.BytesIO()
                np.save(buffer, arrays[name], allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())
        return folder / "network.json", folder / "network.npz"

    @classmethod
    def load(cls, folder: Path) -> IntegerNetwork:
        """Read what `save` wrote."""
        with np.load(folder / "network.npz", allow_pickle=False) as arrays:
            return cls.decode((folder / "network.json").read_text(), {k: arrays[k] for k in arrays.files})
