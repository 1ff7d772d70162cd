"""Make firmware of compressed networks, prove every view equal bit for bit, and register what passes every gate."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass

from codesign.backends.hls_options import IOS, STRATEGIES, HlsOptions, check
from codesign.core.build import require_exact
from codesign.core.errors import CodesignError, TrackingError
from codesign.core.integer_network import IntegerNetwork
from codesign.core.plugins import load_board
from codesign.stages.options import StageOptions, option, run_as_command


@dataclass(frozen=True)
class Synthesize(StageOptions):
    """Parameters of `mlflow run . -e synthesize`."""

    from_run: str = option("", "id of the compression run to take networks from (empty: the newest finished one)")
    board: str = option("vu13p", "a file in codesign/boards")
    clock_ns: float = option(0.0, "clock period in nanoseconds (0: the board's)", minimum=0)
    dataflow: str = option("auto", "layout of the RTL (auto: as compressed)", choices=("auto", "parallel", "streaming"))
    candidates: int = option(1, "members of the compression front to be built", minimum=1)
    vectors: int = option(2000, "golden vectors that every view must reproduce", minimum=1000)
    hls_backend: str = option("Vitis", "whose HLS the hls4ml project is for: Vitis, Vivado or Catapult")
    hls_io: str = option("auto", "arrays or streams between its layers (auto: as the RTL)", choices=("auto", *IOS))
    hls_strategy: str = option("latency", "how its dense layers multiply", choices=STRATEGIES)
    reuse_factor: int = option(1, "times that each of its multipliers is used (strategy resource)", minimum=1)
    workers: int = option(2, "views that are built at the same time", minimum=1)


def run(options: Synthesize) -> str:
    """Build, prove, register, and return the id of the synthesis run.

    Raises:
        CodesignError: A parameter names something that does not exist, a network does not fit, or a tool is missing.
        ExactnessError: A view differs from the emulator; that network is not registered. The others are, before this.
    """
    from codesign.core.pareto import front, spread
    from codesign.jobs.build import dataflow_for, make_firmware
    from codesign.jobs.context import dataflow_of, load_task_and_data, objectives_of, work_folder
    from codesign.tracking import lookup, registry, runs

    hls = HlsOptions(options.hls_backend, options.hls_io, options.hls_strategy, options.reuse_factor)
    check(hls)
    board = load_board(options.board)
    board.with_clock(options.clock_ns)
    task, data = load_task_and_data(options.task)
    source = lookup.find_run("local_compress", task.name, options.from_run)
    search = lookup.find_run("global_search", task.name, source.params["from_run"])
    objectives = objectives_of(task, search.params.get("objectives", ""))
    compressed_for = dataflow_of(task, "", source.params, search.params)
    best = front(lookup.load_trials(source.id), objectives)
    if not best:
        raise TrackingError(
            f"The compression run {source.id} has no feasible network; loosen the limits or compress more."
        )
    with runs.start_stage("synthesize", task.name, asdict(options) | {"from_run": source.id}) as tracked:
        folder, failures = work_folder(tracked.id), []
        given = {"search": search.id, "compression": source.id, "synthesis": tracked.id, "seed": options.seed}
        for trial in spread(best, objectives, options.candidates):
            try:
                network = IntegerNetwork.load(lookup.download(source.id, f"front/{trial.number}", folder / "networks"))
                place = folder / f"build-{trial.number}"
                bundle, firmware = make_firmware(
                    network, trial, task, data, board, options.clock_ns, options.vectors, place, given,
                    dataflow_for(network, options.dataflow, compressed_for), options.workers, hls,
                )  # fmt: skip
                tracked.log_folder(bundle, f"firmware/{trial.number}")
                tracked.log_metrics(dict(firmware.metrics), step=trial.number)
                tracked.log_table(f"evidence-{trial.number}", [asdict(e) for e in firmware.evidence])
                tracked.log_table(f"resources-{trial.number}", [asdict(r) for r in firmware.resources])
                tracked.describe((bundle / "README.md").read_text())
                require_exact(firmware.evidence)
            except CodesignError as error:  # it costs this network, and no other
                failures.append(error)
                continue
            tracked.flush()
            version = registry.register_bundle(bundle, firmware, tracked.id)
            if firmware.is_ready:
                registry.promote(firmware.name, version, objectives[0])
            state = "FPGA-ready" if firmware.is_ready else "registered, not promoted"
            print(f"{firmware.name} version {version}: {state}")
        if failures:
            raise failures[0]
    shutil.rmtree(folder)
    return tracked.id


if __name__ == "__main__":
    run_as_command(Synthesize, run)
