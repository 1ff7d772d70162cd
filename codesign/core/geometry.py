"""Sizes along the two axes of an image: (height, width). A sequence is an image of height 1."""

from __future__ import annotations

Pair = tuple[int, int]


def pair(sizes: int | Pair) -> Pair:
    """Return (height, width), where one number stands for both."""
    height, width = sizes if isinstance(sizes, tuple) else (sizes, sizes)
    return height, width
