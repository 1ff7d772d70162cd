"""Mantissas on a bus: how a tensor becomes bits, the same for the RTL's ports, simulation and the board's driver.

Element 0 of the row-major tensor stands in the least significant bits, then element 1, without gaps; every element
takes `width` bits, in two's complement. As bytes or words the bus is little-endian, its last word filled with zeros.
"""

from __future__ import annotations

import numpy as np

WORD_BITS = 32


def bus_bits(shape: tuple[int, ...], width: int) -> int:
    """Return the bits of a bus for a tensor; a bus of constants (width 0) still has one bit."""
    return max(1, int(np.prod(shape)) * width)


def pack(mantissas: np.ndarray, width: int) -> np.ndarray:
    """Return the bus content (batch, words), uint32, of mantissas (batch, ...)."""
    batch = len(mantissas)
    flat = np.ascontiguousarray(mantissas.reshape(batch, -1)).astype("<i8")
    bits = np.unpackbits(flat.view(np.uint8).reshape(batch, -1, 8), axis=-1, bitorder="little")
    stream = bits[..., :width].reshape(batch, -1)
    words = -(-bus_bits(mantissas.shape[1:], width) // WORD_BITS)
    padded = np.zeros((batch, words * WORD_BITS), dtype=np.uint8)
    padded[:, : stream.shape[1]] = stream
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4")


def unpack(words: np.ndarray, shape: tuple[int, ...], width: int, is_signed: bool) -> np.ndarray:
    """Return the mantissas (batch, *shape), int64, of bus content (batch, words), uint32."""
    batch, elements = len(words), int(np.prod(shape))
    octets = np.ascontiguousarray(words.astype("<u4")).view(np.uint8)
    stream = np.unpackbits(octets, axis=-1, bitorder="little")[:, : elements * width]
    bits = np.zeros((batch, elements, 64), dtype=np.uint8)
    bits[..., :width] = stream.reshape(batch, elements, width)
    if is_signed and width:
        bits[..., width:] = bits[..., width - 1 : width]
    return np.packbits(bits, axis=-1, bitorder="little").view("<i8").reshape(batch, *shape).astype(np.int64)
