"""``python -m jammi_files`` is the command ``jammi-files``; both begin here."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command and return its exit code; an interrupt while it is loaded ends it silently.

    Loading takes a moment. Python would answer an interrupt in it with a traceback through Arrow.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else it is ignored, as by `nohup`, and stays so
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jammi_files import cli  # noqa: PLC0415 - this is the loading

    signal.signal(signal.SIGINT, handler)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
