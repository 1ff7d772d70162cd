"""PYNQ-Z2 with a Zynq-7020."""

from codesign.core.board import Board

BOARD = Board(
    name="pynq_z2",
    title="TUL PYNQ-Z2",
    part="xc7z020clg400-1",
    family="xc7",
    clock_ns=10.0,
    lut=53_200,
    ff=106_400,
    bram_kbit=5_040,
    dsp=220,
    loader="",
    source="AMD DS190 (Zynq-7000 SoC Data Sheet: Overview), table 1, Z-7020: 140 block RAMs of 36 kbit",
)
