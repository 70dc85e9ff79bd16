"""``python -m jammi_files`` is the command ``jammi-files``."""

from __future__ import annotations

import sys

from jammi_files.cli import main

if __name__ == "__main__":
    sys.exit(main())
