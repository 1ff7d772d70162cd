"""Compress the best architectures of a search: quantization-aware training and pruning, down to integers."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class LocalCompress(StageOptions):
    """Parameters of `mlflow run . -e local_compress`."""

    from_run: str = option("", "id of the search run to take candidates from (empty: the newest finished one)")
    candidates: int = option(2, "members of the front to be compressed", minimum=1)
    epochs: int = option(4, "epochs of quantization-aware training in each pruning step", minimum=1)
    bits: str = option("8,6", "widths of weights and activations to try")
    pruning: str = option("magnitude", "what is removed", choices=("none", "magnitude", "structured"))
    sparsity: float = option(0.6, "fraction of the weights or neurons removed in the end", minimum=0)
    steps: int = option(3, "pruning steps, each with its own training", minimum=1)
    workers: int = option(2, "processes that compress at the same time", minimum=1)
    device: str = option("auto", "where to train: auto, cpu or cuda", choices=("auto", "cpu", "cuda"))


def run(options: LocalCompress) -> str:
    """Compress, track every step, and return the id of the compression run."""
    raise SystemExit(options)


if __name__ == "__main__":
    run_as_command(LocalCompress, run)
