"""A hub for tests: it has one model, ``owner/nano``, with files beside it that nobody should take, and data sets."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from uma_lib.paths import BASE

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {path.name: path.read_bytes() for path in BASE.iterdir()}
FILES |= {"pytorch_model.bin": b"pickle", "modeling.py": b"raise SystemExit", "onnx/model.safetensors": b"other"}


class ModelHub:
    """``address`` to ask at, ``asked`` paths; `stop` ends it. ``datasets``: of each repository its files."""

    def __init__(self, datasets: dict[str, dict[str, bytes]] | None = None) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append(path)
                name = path.partition("/resolve/")[2].partition("/")[2]
                if path.startswith("/api/models/owner/nano/tree/"):
                    tree = [
                        {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for file, data in FILES.items()
                    ]
                    self._send(json.dumps(tree).encode())
                elif path.startswith("/api/models/owner/nano"):
                    model = {"id": "owner/nano", "sha": COMMIT, "tags": [], "siblings": [], "private": False}
                    self._send(json.dumps(model).encode())
                elif path.startswith("/owner/nano/resolve/") and name in FILES:
                    self._send(FILES[name], hashlib.sha1(FILES[name]).hexdigest())
                elif found := self._dataset(path):
                    self._send(*found)
                else:
                    self._send(b"{}", code=404)

            def _dataset(self, path: str) -> tuple[bytes, str] | None:
                for repository, files in (datasets or {}).items():
                    if path.startswith(f"/api/datasets/{repository}"):
                        siblings = [{"rfilename": file} for file in files]
                        listed = {"id": repository, "sha": COMMIT, "tags": [], "siblings": siblings, "private": False}
                        return json.dumps(listed).encode(), "none"
                    name = path.partition(f"/datasets/{repository}/resolve/")[2].partition("/")[2]
                    if name in files:
                        return files[name], hashlib.sha1(files[name]).hexdigest()
                return None

            do_HEAD = do_GET

            def _send(self, data: bytes, etag: str = "none", code: int = 200) -> None:
                self.send_response(code)
                for header, value in (
                    ("Content-Length", str(len(data))), ("X-Repo-Commit", COMMIT), ("ETag", f'"{etag}"'),
                    *([("X-Error-Code", "RepoNotFound")] if code == 404 else []),
                ):  # fmt: skip
                    self.send_header(header, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Close the port: nobody answers there any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
