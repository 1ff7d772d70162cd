"""Alveo U250 data center card: the whole part, of which a platform shell takes its share."""

from codesign.core.board import Board

BOARD = Board(
    name="alveo_u250",
    title="Alveo U250",
    part="xcu250-figd2104-2L-e",
    family="xcup",
    clock_ns=3.333,
    lut=1_728_000,
    ff=3_456_000,
    bram_kbit=96_768,
    dsp=12_288,
    loader="",
    source=(
        "AMD DS962 (Alveo U200 and U250 Data Center Accelerator Cards Data Sheet), table of U250 resources: "
        "2,688 block RAMs of 36 kbit"
    ),
)
