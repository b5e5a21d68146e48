"""The same program twice: once with tensorflow_hub, once with tfhub_cache."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from servers import Host

PROGRAM = Path(__file__).with_name("program.py")
THEIRS, OURS = LIBRARIES = ("tensorflow_hub", "tfhub_cache")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a run of the program saw; the folder in which it ran reads `<here>`.

    Attributes:
        value: what was returned.
        error: what was raised: its type, the types above it, its text.
        log: what was logged.
        asked: the targets that were requested from the host.
    """

    value: Any
    error: dict[str, Any] | None
    log: list[str]
    asked: list[str]

    @property
    def family(self) -> str | None:
        """The kind of exception that a caller would catch."""
        if self.error is None:
            return None
        common = ("OSError", "ValueError", "RuntimeError", "TypeError")
        kinds = [kind for kind in self.error["families"] if kind in common]
        return kinds[0] if kinds else self.error["type"]

    @property
    def text(self) -> str:
        """The exception's message."""
        return self.error["text"] if self.error else ""

    @property
    def milestones(self) -> list[str]:
        """The log lines by which people follow a download."""
        return [line for line in self.log if line.startswith(("Downloading TF", "Downloaded TF"))]


class Program:
    """The program as it runs with one of the libraries."""

    def __init__(self, library: str, folder: Path, env: Mapping[str, str]) -> None:
        self.library = library
        self._messages = folder / f"{library}.stderr"
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), library],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                env={**os.environ, **env},
                text=True,
                encoding="utf-8",
            )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def start(self, home: Path, do: str, env: Mapping[str, str], arguments: Any) -> None:
        """Gives the program something to do."""
        task = {"do": do, "cwd": str(home), "env": dict(env), "arguments": arguments}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """Waits for what was started, and returns what the program answers."""
        try:
            answer = self._answers.get(timeout=120)
        except queue.Empty:
            answer = ""
        assert answer, f"{self.library} does not answer:\n{self.messages[-5000:]}"
        return json.loads(answer)

    @property
    def messages(self) -> str:
        """What it has written to stderr, log lines included."""
        return self._messages.read_text("utf-8", "replace")

    def wait_until_told(self, words: str, seconds: float = 30) -> None:
        """Waits until the program has logged something."""
        deadline = time.monotonic() + seconds
        while words not in self.messages:
            assert time.monotonic() < deadline, f"{self.library} never said {words!r}"
            assert self._process.poll() is None, f"{self.library} has ended"
            time.sleep(0.02)

    def end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        self._process.stdout.close()


class Both:
    """The two programs, each with a folder of its own to work in, and the host that they ask."""

    def __init__(self, programs: Mapping[str, Program], folder: Path, host: Host) -> None:
        self.programs = programs
        self._folder = folder
        self._host = host

    def home(self, library: str) -> Path:
        """The folder in which the program runs with a library."""
        home = self._folder / library
        home.mkdir(exist_ok=True)
        return home

    def start(
        self, library: str, do: str, env: Mapping[str, str] | None = None, **arguments: Any
    ) -> None:
        """Starts the program on something; {home} in a setting is its folder."""
        home = self.home(library)
        env = {"TFHUB_CACHE_DIR": "{home}/cache"} | dict(env or {})
        env = {name: value.replace("{home}", str(home)) for name, value in env.items()}
        self._asked_before = len(self._host.requests)
        self.programs[library].start(home, do, env, arguments)

    def finish(self, library: str) -> Seen:
        """Waits for what was started."""
        answer = self.programs[library].finish()
        answer = json.loads(
            json.dumps(answer).replace(json.dumps(str(self.home(library)))[1:-1], "<here>")
        )
        requests = self._host.requests[self._asked_before :]
        return Seen(**answer, asked=[request.target for request in requests])

    def run(self, library: str, do: str, **task: Any) -> Seen:
        """Has the program do something with one of the libraries."""
        self.start(library, do, **task)
        return self.finish(library)


def tree(folder: Path) -> dict[str, Any]:
    """A folder: its files with their rights and content, its folders with theirs.

    Left out are the manifests, which tensorflow_hub does not know, and of the descriptors what is
    not the same twice.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.endswith(".manifest.json"):
            continue
        content: Any = None
        if name.endswith(".descriptor.txt"):
            first, *rest = path.read_text("utf-8").split("\n")
            content = [first, *(line.partition(": ")[0] for line in rest)]
        elif path.is_file():
            content = path.read_bytes()
        found[name] = (oct(stat.S_IMODE(path.stat().st_mode)), content)
    return found
