"""Headless Chromium from Debian's packages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.servers.installs import UnavailableError, from_debian

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,900",
)


@contextmanager
def chromium(home: Path) -> Iterator[Any]:
    """Yield a WebDriver of a browser whose profile is under ``home``.

    Raises:
        UnavailableError: there is no Chromium, or Selenium is not installed.
    """
    try:
        from selenium import webdriver  # noqa: PLC0415 - an extra
        from selenium.webdriver.chrome.service import Service  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UnavailableError("selenium is missing: install '.[test]'") from error
    from_debian(["chromium", "chromium-driver"], ["chromium", "chromedriver"])
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*_FLAGS, f"--user-data-dir={home}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield driver
    finally:
        driver.quit()
