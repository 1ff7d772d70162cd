"""Find, fetch and check firmware: `python -m deploy list | pull | verify | check`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status; a known error is one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="show the registered firmware")
    listing.add_argument("name", nargs="?", default="", metavar="NAME", help="of one task (default: all)")
    listing.add_argument("--ready", action="store_true", help="only versions of the stage FPGA-ready")
    listing.add_argument("--board", default="", help="only for this board")
    listing.add_argument("--where", default="", metavar="LIMITS", help="such as 'lut_synthesis<=30000, accuracy>=0.6'")

    pull = commands.add_parser("pull", help="fetch a bundle and verify it")
    pull.add_argument("reference", metavar="NAME[@ALIAS|/VERSION]", help="NAME alone means NAME@FPGA-ready")
    pull.add_argument("--to", type=Path, metavar="FOLDER", help="default: bundles/NAME-VERSION")

    for command, text in (
        ("verify", "compare every file of a bundle with its manifest"),
        ("check", "verify a bundle, then replay its golden vectors: zero mismatches, or exit status 1"),
    ):
        commands.add_parser(command, help=text).add_argument("folder", type=Path, metavar="FOLDER")

    options = parser.parse_args(arguments)

    from codesign.core.errors import CodesignError  # after the help, which is instant

    try:
        return _run(options)
    except CodesignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was changed", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from deploy import bundle

    if options.command == "list":
        from deploy.registry import table

        print(table(options.name, options.ready, options.board, options.where))
    elif options.command == "pull":
        from deploy.registry import pull

        print(pull(options.reference, options.to))
    elif options.command == "verify":
        firmware = bundle.verify(options.folder)
        print(f"{options.folder}: {len(firmware.files)} files are what the manifest says")
    else:
        result = bundle.check(options.folder)
        print(f"{options.folder}: {result.vectors} golden vectors, {result.mismatches} mismatches")
        if not result.is_exact:
            print(f"error: {result.first_mismatch}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
