"""ULX3S with the largest ECP5: built, routed and programmed with open tools alone."""

from codesign.core.board import Board

BOARD = Board(
    name="ulx3s_85f",
    title="Radiona ULX3S 85F",
    part="LFE5U-85F-6BG381C",
    family="ecp5",
    clock_ns=20.0,
    lut=83_640,
    ff=83_640,
    bram_kbit=3_744,
    dsp=156,
    loader="",
    source=(
        "Lattice FPGA-DS-02012 (ECP5 and ECP5-5G Family Data Sheet), table 1.1, LFE5U-85: 208 sysMEM blocks "
        "of 18 kbit; LUTs to the last one and IDCODE: Project Trellis, devices.json"
    ),
    idcode=0x41113043,
)
