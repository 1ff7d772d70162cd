"""OrangeCrab r0.2 with an ECP5-25F: built, routed and programmed with open tools alone."""

from codesign.core.board import Board

BOARD = Board(
    name="orangecrab",
    title="OrangeCrab r0.2",
    part="LFE5U-25F-8MG285C",
    family="ecp5",
    clock_ns=20.833,
    lut=24_288,
    ff=24_288,
    bram_kbit=1_008,
    dsp=28,
    loader="",
    source=(
        "Lattice FPGA-DS-02012 (ECP5 and ECP5-5G Family Data Sheet), table 1.1, LFE5U-25: 56 sysMEM blocks of "
        "18 kbit; LUTs to the last one and IDCODE: Project Trellis, devices.json; clock: its 48 MHz "
        "oscillator"
    ),
    idcode=0x41111043,
)
