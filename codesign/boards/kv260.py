"""Kria KV260 vision kit with a K26 module."""

from codesign.core.board import Board

BOARD = Board(
    name="kv260",
    title="Kria KV260",
    part="xck26-sfvc784-2LV-c",
    family="xcup",
    clock_ns=5.0,
    lut=117_120,
    ff=234_240,
    bram_kbit=5_184,
    dsp=1_248,
    loader="",
    source="AMD DS987 (Kria K26 SOM Data Sheet), table of programmable logic: 144 block RAMs of 36 kbit",
)
