"""Let a coverage-guided fuzzer look for bytes that break a reader's contract.

    python tests/fuzz.py TARGET [--seconds N]

TARGET is one of `support.hostile.TARGETS`, or ``all``, one after the other. Needs atheris, which
neither the library nor its tests do. Exit codes: 0 nothing was found, 1 something was: the input is
kept as ``crash-...`` in the working directory; 2 atheris is not installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Fuzz what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    try:
        import atheris  # noqa: PLC0415 - a tool that only this script needs
    except ImportError:
        sys.stderr.write("atheris is not installed: pip install atheris\n")
        return 2
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    with atheris.instrument_imports(include=["jammi_files"]):
        from support.hostile import TARGETS, Keeper  # noqa: PLC0415 - instrumented as it loads
    if args.target == "all":
        command = [sys.executable, __file__]
        runs = [[*command, each, "--seconds", str(args.seconds)] for each in TARGETS]
        return max(subprocess.run(run, check=False).returncode for run in runs)
    keeper = Keeper(args.target)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(keeper.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        flags = [f"-max_total_time={args.seconds}", "-rss_limit_mb=2048", "-timeout=30"]
        longest = max(map(len, keeper.seeds)) + 4096
        atheris.Setup([sys.argv[0], *flags, f"-max_len={longest}", corpus], keeper.feed)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("JAMMI_FILES_CACHE", tempfile.mkdtemp())
    sys.exit(main())
