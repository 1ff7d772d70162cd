"""Browse the runs: `python -m codesign.tracking.ui` shows the store in use, at the page of the newest stage."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from contextlib import ExitStack

from codesign.core.errors import CodesignError, TrackingError
from codesign.tracking.server import PORT, serving, wait_for_interrupt


def pages(address: str) -> list[tuple[str, str]]:
    """Return (task, page) of every experiment with runs of a stage, the one of the newest run first.

    The pages are those of runs: MLflow's own first page is about language models.

    Raises:
        TrackingError: No stage ran yet.
    """
    from codesign.tracking.store import connect

    store = connect()
    found: dict[str, str] = {}
    newest = store.client.search_runs(
        store.experiments(), "tags.stage LIKE '%'", max_results=1000, order_by=["start_time DESC"]
    )
    for run in newest:
        found.setdefault(run.info.experiment_id, run.data.tags["task"])
    if not found:
        raise TrackingError(f"There are no runs in {store.uri} yet; start a search: make search.")
    return [(task, f"{address}/#/experiments/{experiment}/runs") for experiment, task in found.items()]


def main() -> int:
    """Show the runs until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m codesign.tracking.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="port of the pages of a local store (default: 5000)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    options = parser.parse_args()
    try:
        return _show(options.port, is_opened=not options.no_browser)
    except CodesignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _show(port: int, is_opened: bool) -> int:
    from codesign.tracking.store import connect, sqlite_path

    store = connect()
    pages("")  # says so before a server is started, if there is nothing to show
    path = sqlite_path(store.uri)
    with ExitStack() as stack:
        address = store.uri.rstrip("/")
        if path:
            address = stack.enter_context(serving(path, store.artifact_root, port))
        found = pages(address)
        for task, page in found:
            print(f"{task}: {page}")
        if is_opened and (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(found[0][1])
        if path:
            print("End with Ctrl-C.", flush=True)
            wait_for_interrupt()
    return 0


if __name__ == "__main__":
    sys.exit(main())
