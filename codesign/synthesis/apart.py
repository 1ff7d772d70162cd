"""Work in processes of their own: several at a time, and none that fails or dies takes another with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from typing import Any


def run_apart(jobs: Mapping[str, Callable[[], Any]], workers: int) -> Iterator[tuple[str, Future[Any]]]:
    """Run each job in a fresh process, at most `workers` at a time, and yield each with its future as soon as it ends.

    A future holds the result or the error; a process that died gives `BrokenProcessPool`.

    Args:
        jobs: What can be pickled and called without arguments, by name.
        workers: Processes at a time.
    """
    with ThreadPoolExecutor(workers) as threads:
        futures = {threads.submit(_alone, job): name for name, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future
        finally:
            for future in futures:
                future.cancel()


def _alone(job: Callable[[], Any]) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(job).result()
