"""A browser with the page in it, as the tests of the page use it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

PATIENCE = 20.0
"""Seconds until something that must appear counts as missing."""


def find_browser() -> tuple[str, str]:
    """Chromium and its driver; skips the test where one is missing."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Chromium or chromedriver is not installed")
    return browser, driver


@contextmanager
def open_browser(profile: Path) -> Iterator[Any]:
    """A headless Chromium under the control of its driver.

    Args:
        profile: empty folder for its data.
    """
    browser, driver = find_browser()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=driver)
    )
    try:
        yield chromium
    finally:
        chromium.quit()


class Page:
    """The page of one server. Every test gets one with empty storage.

    Args:
        driver: selenium's.
        url: where the server listens.
    """

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url
        driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "all"})
        self.look()
        driver.get_log("performance")
        driver.get_log("browser")

    def look(self, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Sets the size of the window, and the colours that the system prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, *conversations: dict[str, Any]) -> Page:
        """Opens the page anew; it shows the first of the saved conversations, if any."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/favicon.svg")
        self.run("sessionStorage.clear()")
        for saved in conversations:
            entry = f"everlong.conversation.{saved['id']}"
            self.run("localStorage.setItem(arguments[0], arguments[1])", entry, json.dumps(saved))
        fragment = f"#/c/{conversations[0]['id']}" if conversations else ""
        self.driver.get(f"{self.url}/{fragment}")
        self.wait_for("#message")
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def text(self, css: str) -> str:
        """Text of the last match as it is shown; empty without one."""
        return (
            self.run("return [...document.querySelectorAll(arguments[0])].at(-1)?.innerText", css)
            or ""
        )

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true value of ``condition``."""
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for: {what}"
            time.sleep(0.02)
        return value

    def wait_for(self, css: str) -> Any:
        """The last element that matches, as soon as there is one."""
        return self.wait(lambda: self.all(css), css)[-1]

    def wait_gone(self, css: str) -> None:
        self.wait(lambda: not self.all(css), f"no {css}")

    def press(self, *keys: str) -> None:
        """Types into whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def say(self, text: str) -> None:
        """Types a message and sends it with Enter."""
        self.wait(lambda: self.all("select.model"), "the list of models")
        box = self.wait_for("#message")
        box.send_keys(text, "\n")

    def wait_for_answer(self) -> None:
        """Until nothing is being received, and the last message has its footer."""
        self.wait(lambda: self.all(".answer:last-child footer"), "the end of the answer")

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was made or this was last called."""
        events = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def complaints(self) -> list[str]:
        """What the console says, but for requests that fail on purpose."""
        entries = [entry["message"] for entry in self.driver.get_log("browser")]
        return [entry for entry in entries if "Failed to load resource" not in entry]

    def host(self) -> str:
        return urlsplit(self.url).netloc
