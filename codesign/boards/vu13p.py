"""Virtex UltraScale+ VU13P, the part that trigger studies quote."""

from codesign.core.board import Board

BOARD = Board(
    name="vu13p",
    title="Virtex UltraScale+ VU13P",
    part="xcvu13p-flga2577-2-e",
    family="xcup",
    clock_ns=5.0,
    lut=1_728_000,
    ff=3_456_000,
    bram_kbit=96_768,
    dsp=12_288,
    loader="",
    source=(
        "AMD DS890 (UltraScale Architecture and Product Data Sheet), table Virtex UltraScale+ FPGA Feature "
        "Summary, VU13P: 2,688 block RAMs of 36 kbit"
    ),
)
