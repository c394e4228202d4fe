"""The hub's answers about repositories that are folders of this machine."""

import hashlib
import http.server
import json
import re
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/?]+))?(?:\?.*)?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """Repositories by name, and what was asked of them: method, path and bytes sent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str, int]] = []

    def repo(self, name: str) -> Path:
        folder = self.root / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def fetched(self) -> dict[str, int]:
        """Bytes of each file that was sent, by its path in its repository."""
        sent: dict[str, int] = {}
        for method, path, size in self.asked:
            if method == "GET" and (match := _FILE.fullmatch(path)):
                sent[match[3]] = sent.get(match[3], 0) + size
        return sent

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        head, body, status, path = {}, b"", 200, request.path
        api, file = _API.fullmatch(path), _FILE.fullmatch(path)
        match = api or file
        folder = self.root / match[1] if match else self.root / "none"
        revision = (api[3] if api else file[2] if file else None) or "main"
        if folder.name == "gated":
            status, head["X-Error-Code"] = 403, "GatedRepo"
        elif not folder.is_dir():
            status, head["X-Error-Code"] = 404, "RepoNotFound"
        elif revision not in ("main", "v1", COMMIT):
            status, head["X-Error-Code"] = 404, "RevisionNotFound"
        elif api:
            paths = sorted(p for p in folder.rglob("*") if p.is_file())
            names = {str(p.relative_to(folder)): p for p in paths}
            made: Any = [
                {"type": "file", "path": n, "size": p.stat().st_size, "oid": _tag(p)}
                for n, p in names.items()
            ]  # fmt: skip
            if api[2] != "tree":
                siblings = [{"rfilename": name} for name in names]
                made = {"id": api[1], "sha": COMMIT, "siblings": siblings}
            body = json.dumps(made).encode()
        elif file and (folder / file[3]).is_file():
            body = (folder / file[3]).read_bytes()
            head |= {"ETag": f'"{_tag(folder / file[3])}"', "X-Repo-Commit": COMMIT}
            if span := re.fullmatch(
                r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")
            ):
                first, total = int(span[1]), len(body)
                body = body[first : int(span[2] or total) + 1]
                last = first + len(body) - 1
                status, head["Content-Range"] = 206, f"bytes {first}-{last}/{total}"
        else:
            status, head["X-Error-Code"] = 404, "EntryNotFound"
        self.asked.append((request.command, path, len(body)))
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | head).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)


def _tag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
