"""A headless Chromium over its debugging pipe (Chrome DevTools Protocol: JSON messages, a zero byte after each), standard library alone."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe",
    "--disable-background-networking", "--hide-scrollbars",
)  # fmt: skip
# What Chromium expects as files 3 and 4. A process of its own does it: forking this one would meet the threads of JAX.
AS_3_AND_4 = """
import os, sys
for given, expected in zip([os.dup(int(fd)) for fd in sys.argv[1:3]], (13, 14)): os.dup2(given, expected)
os.dup2(13, 3); os.dup2(14, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page: `open` an address, `run` JavaScript in it, `size` the window, `print` to PDF. `said`: console messages and exceptions;
    `asked`: addresses the page requested."""

    def __init__(self, profile):
        (from_us, self._to), (self._from, to_us) = os.pipe(), os.pipe()
        command = [
            sys.executable,
            "-S",
            "-c",
            AS_3_AND_4,
            str(from_us),
            str(to_us),
            FOUND,
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, pass_fds=(from_us, to_us), stdin=quiet, stdout=quiet, stderr=quiet)
        os.close(from_us)
        os.close(to_us)
        self._count, self._rest, self._session = 0, b"", None
        self.said, self.asked = [], []
        target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def close(self):
        with contextlib.suppress(OSError, TimeoutError):
            self._call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, address):
        self._loaded = False
        self._call("Page.navigate", address=None, url=address)
        self._until(lambda: self._loaded)

    def run(self, script):
        """The value of a JavaScript expression; a promise is awaited."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def size(self, width, height, scheme="light"):
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def media(self, kind):
        """Emulate "print" or, by "", the screen."""
        self._call("Emulation.setEmulatedMedia", media=kind)

    def print(self) -> bytes:
        return base64.b64decode(self._call("Page.printToPDF", printBackground=True)["data"])

    def picture(self, whole=True) -> bytes:
        return base64.b64decode(self._call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={"Escape": 27, "Enter": 13}.get(key, 0)
            )

    def _call(self, method, **parameters):
        self._count += 1
        message = {"id": self._count, "method": method, "params": {k: v for k, v in parameters.items() if v is not None}}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answers = []
        self._until(lambda: answers, answers)
        assert "error" not in answers[0], answers[0]["error"]
        return answers[0]["result"]

    def _until(self, done, answers=None, seconds=60):
        end = time.monotonic() + seconds
        while not done():
            if not select.select([self._from], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._from, 2**20)
            if not piece:
                raise OSError("the browser has gone")
            *messages, self._rest = (self._rest + piece).split(b"\0")
            for message in map(json.loads, messages):
                if message.get("id") == self._count and answers is not None:
                    answers.append(message)
                self._note(message.get("method"), message.get("params"))

    def _note(self, event, content):
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(content)
        elif event == "Network.requestWillBeSent":
            self.asked.append(content["request"]["url"])
