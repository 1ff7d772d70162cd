"""ZCU102 evaluation kit with a Zynq UltraScale+ ZU9EG."""

from codesign.core.board import Board

BOARD = Board(
    name="zcu102",
    title="ZCU102",
    part="xczu9eg-ffvb1156-2-e",
    family="xcup",
    clock_ns=5.0,
    lut=274_080,
    ff=548_160,
    bram_kbit=32_832,
    dsp=2_520,
    loader="",
    source=(
        "AMD DS891 (Zynq UltraScale+ MPSoC Data Sheet: Overview), table EG device feature summary, ZU9EG: 912 "
        "block RAMs of 36 kbit"
    ),
)
