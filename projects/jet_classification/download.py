"""Download the official jets: python -m projects.jet_classification.download (3.9 GB, can be interrupted)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from codesign.core.download import RemoteFile, download
from codesign.core.errors import CodesignError
from codesign.core.plugins import load_sibling
from codesign.jobs.context import data_folder


def main() -> None:
    """Fetch both archives into the data folder, one after the other."""
    folder = data_folder() / Path(__file__).parent.name
    files: dict[str, RemoteFile] = load_sibling(__file__, "official").ARCHIVES
    try:
        for file in files.values():
            with tqdm(desc=file.name, unit="B", unit_scale=True) as bar:
                print(download(file, folder, _report(bar)))
    except CodesignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command goes on from here.")


def _report(bar: tqdm) -> Callable[[int, int], None]:
    def report(have: int, total: int) -> None:
        bar.total = total or None
        bar.update(have - bar.n)

    return report


if __name__ == "__main__":
    main()
