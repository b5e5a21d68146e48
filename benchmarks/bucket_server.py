"""A bucket of Google Cloud Storage in memory, each of whose requests takes some time.

    python -m benchmarks.bucket_server SECONDS

It prints its address, and ends with its standard input. It does what gcsfs asks for: listings,
uploads in one request and in several, reads, deletes, preconditions on generations.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import json
import re
import sys
from typing import Any

import google_crc32c
from aiohttp import web


class Bucket:
    """The objects, and the uploads that have begun."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.requests = 0
        self._objects: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._uploads: dict[str, tuple[str, bytearray]] = {}
        self._generation = 1000

    async def handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        _, body = await asyncio.gather(asyncio.sleep(self.latency), request.read())
        path, query = request.path, request.query
        if path == "/requests":  # how many there were; for the benchmark
            return web.json_response(self.requests - 1)
        if path.startswith("/upload/"):
            return self._upload(request, body)
        name = path.partition("/o/")[2]
        if not name:
            return self._list(query)
        if name not in self._objects:
            return web.json_response({"error": {"message": "No such object"}}, status=404)
        info, content = self._objects[name]
        if query.get("ifGenerationMatch", info["generation"]) != info["generation"]:
            return web.json_response({"error": {"message": "another generation"}}, status=412)
        if request.method == "DELETE":
            del self._objects[name]
            return web.Response(status=204)
        if query.get("alt") != "media":
            return web.json_response(info)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            content = content[int(found[1]) : int(found[2]) + 1 if found[2] else None]
            return web.Response(body=content, status=206)
        return web.Response(body=content)

    def _list(self, query: Any) -> web.Response:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names = sorted(name for name in self._objects if name.startswith(prefix))
        folders: list[str] = []
        if delimiter:
            below = [name[len(prefix) :] for name in names]
            folders = sorted({f"{prefix}{n.partition('/')[0]}/" for n in below if "/" in n})
            names = [name for name in names if "/" not in name[len(prefix) :]]
        first = int(query.get("pageToken") or 0)
        last = first + min(1000, int(query.get("maxResults") or 1000))
        page: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [self._objects[name][0] for name in names[first:last]],
        }
        if folders:
            page["prefixes"] = folders
        if last < len(names):
            page["nextPageToken"] = str(last)
        return web.json_response(page)

    def _upload(self, request: web.Request, body: bytes) -> web.Response:
        query = request.query
        if upload := query.get("upload_id"):
            name, received = self._uploads[upload]
            received += body
            if request.headers["Content-Range"].endswith("/*"):
                return web.Response(status=308, headers={"Range": f"bytes=0-{len(received) - 1}"})
            return self._store(name, bytes(received))
        name, content = query.get("name", ""), body
        if query["uploadType"] == "multipart":
            mark = b"--" + request.headers["Content-Type"].partition('boundary="')[2][:-1].encode()
            head, _, rest = body[len(mark) :].partition(b"\n" + mark)
            name = json.loads(head.partition(b"\n\n")[2])["name"]
            content = rest.partition(b"\n\n")[2].removesuffix(b"\n" + mark + b"--")
        expected = query.get("ifGenerationMatch")
        there = self._objects[name][0]["generation"] if name in self._objects else "0"
        if expected is not None and expected != there:
            return web.json_response({"error": {"message": "another generation"}}, status=412)
        if query["uploadType"] == "resumable":
            upload = str(len(self._uploads))
            self._uploads[upload] = name, bytearray()
            place = f"{request.url.origin()}/upload/storage/v1/b/bucket/o?upload_id={upload}"
            return web.json_response({}, headers={"Location": place})
        return self._store(name, content)

    def _store(self, name: str, content: bytes) -> web.Response:
        self._generation += 1
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        checksum = google_crc32c.value(content).to_bytes(4, "big")
        info = {
            "name": name,
            "bucket": "bucket",
            "size": str(len(content)),
            "generation": str(self._generation),
            "updated": now,
            "timeCreated": now,
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "crc32c": base64.b64encode(checksum).decode(),
        }
        self._objects[name] = info, content
        return web.json_response(info)


async def serve(latency: float) -> None:
    """Serves until the standard input ends."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", Bucket(latency).handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("http://{}:{}".format(*runner.addresses[0][:2]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
