"""Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websocket
from waiting import SOON, until

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def executable() -> str | None:
    """The Chromium of this machine, if it has one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab of a browser of its own.

    Attributes:
        troubles: what the pages have reported since the last `open`: errors on the console, files
            that did not arrive, and requests that leave this machine.
    """

    def __init__(self, folder: Path) -> None:
        program = executable()
        assert program is not None
        self.troubles: list[str] = []
        self._loaded: set[str] = set()
        self._last = 0
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}"], stderr=subprocess.DEVNULL
        )
        try:
            self._socket = self._connect(folder / "DevToolsActivePort")
        except BaseException:
            self._stop()
            raise
        for domain in "Page", "Runtime", "Log", "Network":
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._stop()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    @staticmethod
    def _connect(file: Path) -> websocket.WebSocket:
        port = until(
            lambda: file.exists() and file.read_text("utf-8").partition("\n")[0], "the browser", 60
        )
        request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
        with urllib.request.urlopen(request) as answer:
            url = json.load(answer)["webSocketDebuggerUrl"]
        return websocket.create_connection(url, timeout=60, suppress_origin=True)

    def look(self, width: int, scheme: str) -> None:
        """Chooses the width of the window, and "light" or "dark"."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, url: str) -> None:
        """Opens a page, and returns when all its files have arrived."""
        self.troubles.clear()
        loader = self.call("Page.navigate", url=url)["loaderId"]
        while loader not in self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which can be sent as JSON."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, good: Callable[[Any], object] = bool) -> Any:
        """Waits until the value of an expression is good, and returns it."""
        value = None

        def is_good() -> object:
            nonlocal value
            value = self.evaluate(expression)
            return good(value)

        until(is_good, expression, SOON)
        return value

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """What the browser answers to a command."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while (message := self._receive()).get("id") != self._last:
            pass
        assert "error" not in message, message
        return message["result"]

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv())
        event, params = message.get("method"), message.get("params", {})
        if event == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif event == "Runtime.exceptionThrown":
            self.troubles.append(f"exception: {params['exceptionDetails']}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.troubles.append(f"log: {params['entry']['text']} {params['entry'].get('url')}")
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.troubles.append(f"console: {params['args']}")
        elif event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:")):
                self.troubles.append(f"a request leaves this machine: {url}")
        return message
