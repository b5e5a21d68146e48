"""The host of the models: nginx where it is installed, otherwise our own.

It listens on two free ports of 127.0.0.1: one sends as fast as it can, the other holds each
connection to a rate, as object stores do.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.static_server import StaticServer

RATE = 20_000_000
"""Bytes a second for each connection of the limited host."""

_NGINX = """\
daemon off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type application/gzip;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{free}; root "{folder}"; }}
    server {{ listen 127.0.0.1:{limited}; root "{folder}"; limit_rate {rate}; }}
}}
"""


@dataclass(frozen=True)
class Hosts:
    """The URLs of the two hosts, without a slash at the end."""

    free: str
    limited: str


def name() -> str:
    """What serves, with its version."""
    if not shutil.which("nginx"):
        return "the bundled server"
    shown = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return "nginx " + shown.strip().rpartition("/")[2]


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Hosts]:
    """Serves the files of a folder."""
    if shutil.which("nginx"):
        with _nginx(folder) as hosts:
            yield hosts
    else:
        with StaticServer(folder) as free, StaticServer(folder, RATE) as limited:
            yield Hosts(free.url, limited.url)


@contextlib.contextmanager
def _nginx(folder: Path) -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory() as prefix:
        free, limited = _free_port(), _free_port()
        config = Path(prefix, "nginx.conf")
        config.write_text(
            _NGINX.format(
                # By default nginx runs as a user who may not read the folder.
                user=f"user {getpass.getuser()};" if os.getuid() == 0 else "",
                free=free,
                limited=limited,
                folder=folder,
                rate=RATE,
            )
        )
        process = subprocess.Popen(["nginx", "-e", "stderr", "-p", prefix, "-c", str(config)])
        try:
            for port in free, limited:
                _wait_for(port, process)
            yield Hosts(f"http://127.0.0.1:{free}", f"http://127.0.0.1:{limited}")
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("nginx did not start; what it says is above") from None
            time.sleep(0.02)
