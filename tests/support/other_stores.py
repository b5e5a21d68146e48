"""Stores that are neither Google's nor S3, for tests: SFTP in this process, and Azure's emulator.

with sftp_server(folder) as (url, known_hosts):
    ...
with azure_server("models") as connection_string:
    ...
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import SOON

_ACCOUNT = "devstoreaccount1"
# Not a secret: each emulator of Azure has this key.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextlib.contextmanager
def sftp_server(folder: Path) -> Iterator[tuple[str, str]]:
    """SFTP on loopback, whose root is a folder.

    Yields:
        The root's URL, with a login in it, and the line for ~/.ssh/known_hosts.
    """
    asyncssh = pytest.importorskip("asyncssh", reason="sshfs is not installed")

    class Login(asyncssh.SSHServer):  # type: ignore[misc,name-defined]
        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("me", "secret")

        def password_auth_supported(self) -> bool:
            return True

    async def serve() -> None:
        ended = asyncio.Event()
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Login,
            server_host_keys=[key],
            sftp_factory=functools.partial(asyncssh.SFTPServer, chroot=os.fsencode(folder)),
        )
        end = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        started.set_result((server.get_port(), end))
        await ended.wait()
        server.close()

    key = asyncssh.generate_private_key("ssh-ed25519")
    started: concurrent.futures.Future[tuple[int, Callable[[], object]]]
    started = concurrent.futures.Future()
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    port, end = started.result(SOON)
    try:
        public = key.export_public_key().decode().strip()
        yield f"sftp://me:secret@127.0.0.1:{port}", f"[127.0.0.1]:{port} {public}\n"
    finally:
        end()
        thread.join(SOON)


@contextlib.contextmanager
def azure_server(container: str) -> Iterator[str]:
    """Azure's emulator, empty but for one container; without it, the test is skipped.

    Yields:
        The connection string, for AZURE_STORAGE_CONNECTION_STRING.
    """
    blobs = pytest.importorskip("azure.storage.blob", reason="adlfs is not installed")
    program = Path(sys.prefix, "azurite", "node_modules", ".bin", "azurite-blob")
    if not program.exists():
        pytest.skip("azurite is not installed: `make` does that where npm is")
    server = subprocess.Popen(
        [
            *(program, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"),
            *("--silent", "--blobHost", "127.0.0.1", "--blobPort", "0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        endpoint = next(line.split()[-1] for line in server.stdout if "listens on" in line)
        connection_string = (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint={endpoint}/{_ACCOUNT};"
        )
        client = blobs.BlobServiceClient.from_connection_string(connection_string)
        client.create_container(container)
        yield connection_string
    finally:
        server.terminate()
        server.wait(SOON)
        server.stdout.close()
