"""A fake of the Java Calycopis broker on a real socket, traps included: CI has neither Java nor PostgreSQL.

It answers as the recorded answers of the real one say (``recorded/``, checked by ``test_recorded.py``), in
seconds where the real one takes minutes. A "container" is a plain process: what would be mounted below the
mounted folder is linked there, and the container's paths in the script are replaced by this machine's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from wes_bridge.model.execution_broker import KIND_BASE, OFFERSET, SCHEDULED_SESSION
from wes_bridge.model.units import parse_duration, parse_interval

DOCKER = KIND_BASE + "executable/docker-container.yaml"
COMPUTE = KIND_BASE + "compute/simple-compute-resource.yaml"
DATA = KIND_BASE + "data/simple-data-resource.yaml"
STORAGE = KIND_BASE + "storage/simple-storage-resource.yaml"
VOLUME = KIND_BASE + "volume/simple-volume-mount.yaml"
KNOWN = {DOCKER, COMPUTE, DATA, STORAGE, VOLUME}
LONGEST = 255


class FakeCalycopis:
    """Attributes may be changed by tests.

    Args:
        folder: for its downloads.
        tick: seconds between the moments at which it starts containers (the real one: 60).
        password: of the user ``wes-bridge``; None: anybody may post.

    Attributes:
        download: seconds an HTTP input takes.
        containers: commands that were run, with how they ended; those that failed are left behind.
        no_shell: images without ``sh``: the container cannot be started.
        no_image: images that cannot be had.
        as_files: whether an HTTP input is mounted as a file; the real one mounts a folder with ``content``.
        path: where containers find programs; None: as this process does.
        kill_after: seconds after which containers are killed, as for too much memory; None: they are not.
        root_is_closed: whether the image's user may not write at the root of its file system.
        said: what containers wrote to their streams; the real one tells nobody.
        running, most: containers now, and most at once.
    """

    def __init__(self, folder: Path, tick: float = 0.3, password: str | None = None) -> None:
        self.tick = tick
        self.password = password
        self.download = 0.0
        self.folder = folder
        self.containers: list[tuple[list[str], int]] = []
        self.no_shell: set[str] = set()
        self.no_image: set[str] = set()
        self.as_files = False
        self.path: str | None = None
        self.kill_after: float | None = None
        self.root_is_closed = False
        self.running = self.most = 0
        self.said: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        handler = type("BoundHandler", (_Handler,), {"broker": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def allows(self, header: str | None) -> bool:
        """Whether a POST with this Authorization may be."""
        wanted = "Basic " + base64.b64encode(f"wes-bridge:{self.password}".encode()).decode()
        return self.password is None or header == wanted

    # --- asking ---

    def ask(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to a request."""
        kinds = [part.get("kind") for part in _parts(request)]
        if any(kind not in KNOWN for kind in kinds):
            return 400, _error(400, "Bad Request")
        if any(len(text) > LONGEST for text in _texts(request)):
            return 500, _error(500, "Internal Server Error")
        if any("location" not in item or item["location"] is None for item in request.get("data") or []):
            return 500, _error(500, "Internal Server Error")
        messages = _refusals(request)
        slots = self._slots(request)
        yes = not messages and bool(slots)
        meta = self._meta("offersets")
        answer: dict[str, Any] = {"kind": OFFERSET, "meta": meta, "result": "YES" if yes else "NO"}
        if messages:
            meta["messages"] = messages
        if yes:
            answer["offers"] = [self._offer(request, number, *slot) for number, slot in enumerate(slots)]
        return 303, answer

    def _slots(self, request: dict[str, Any]) -> list[tuple[float, timedelta]]:
        asked = ((request.get("schedule") or {}).get("requested")) or {}
        length = parse_duration(asked["duration"]) if asked.get("duration") else timedelta(hours=2)
        if length > timedelta(hours=2) or length < timedelta(seconds=30):
            return []
        earliest = time.time()
        if asked.get("start"):  # in the fake's time: its minutes are ticks
            ahead = parse_interval(asked["start"])[0].timestamp() - earliest
            earliest += max(0.0, ahead * self.tick / 60)
        first = (int(earliest / self.tick) + 1) * self.tick
        double = min(2 * length, max(length, timedelta(hours=2)))
        count = min(4, timedelta(hours=2) // double)
        return [(first + number * double.total_seconds(), double) for number in range(count)]

    def _offer(self, request: dict[str, Any], number: int, start: float, length: timedelta) -> dict[str, Any]:
        wanted, compute = request["executable"], request.get("compute") or {}
        image = {"locations": wanted["image"]["locations"]}
        if wanted["image"]["digest"]:
            image["digest"] = wanted["image"]["digest"]
        least = 2 * ((compute.get("cores") or {}).get("min") or 1)
        executable = {
            "kind": DOCKER,
            "meta": self._meta("executables", wanted),
            "phase": "INITIALIZING",
            "command": wanted.get("command"),
            "entrypoint": wanted.get("entrypoint"),
            "environment": wanted.get("environment"),
            "image": image | {"platform": {"architecture": "amd64", "os": "linux"}},
            "privileged": False,
            "schedule": {
                "preparing": {"duration": "PT1S"},
                "available": {"start": "1970-01-01T00:00:01Z/PT0S"},
                "releasing": {"duration": "PT1S"},
            },
        }
        data = [
            {
                "kind": DATA,
                "meta": self._meta("data", item),
                "phase": "INITIALIZING",
                "location": item["location"],
                "storage": str(uuid.uuid4()),
                "schedule": {"releasing": {"duration": "PT10S"}},
            }
            for item in request.get("data") or []
        ]
        names = {item["meta"]["name"]: item["meta"]["uuid"] for item in data}
        volumes = [
            {
                "kind": VOLUME,
                "meta": self._meta("volumes", volume),
                "mode": volume.get("mode", "READONLY"),
                "path": volume["path"],
                "resource": names[volume["resource"]],
            }
            for volume in compute.get("volumes") or []
        ]
        amount = {"min": least, "max": least}
        session = {
            "kind": SCHEDULED_SESSION,
            "meta": self._meta("sessions", {"meta": {"name": f"null-offer-{number}"}}),
            "phase": "OFFERED",
            "expires": _instant(time.time() + 300),
            "executable": _full(executable),
            "compute": {
                "kind": COMPUTE,
                "meta": self._meta("compute", compute),
                "phase": "INITIALIZING",
                "cores": amount,
                "memory": amount,  # the cores' figures, as the real one does
                "schedule": {
                    "preparing": {"start": _instant(start - 1), "duration": "PT1S"},
                    "available": {"start": f"{_instant(start)}/PT0S", "duration": _duration(length)},
                    "releasing": {"start": _instant(start), "duration": "PT10S"},
                },
                "volumes": volumes,
            },
            "data": data,
            "storage": [
                {"kind": STORAGE, "meta": self._meta("storage"), "phase": "INITIALIZING"} for _ in data
            ],
            "_start": start,
        }
        with self._lock:
            self.sessions[session["meta"]["uuid"]] = session  # type: ignore[index]
        return _shown(session)

    def _meta(self, place: str, named: dict[str, Any] | None = None) -> dict[str, Any]:
        number = str(uuid.uuid4())
        meta = {"uuid": number, "url": f"{self.url}/{place}/{number}", "created": _instant(time.time())}
        name = ((named or {}).get("meta") or {}).get("name")
        return meta | ({"name": name} if name else {})

    # --- sessions ---

    def update(self, number: str, value: str) -> dict[str, Any]:
        """The answer to a phase update: only ACCEPTED has an effect beyond the answer."""
        with self._lock:
            session = self.sessions[number]
            if value == "ACCEPTED" and session["phase"] == "OFFERED":
                session["phase"] = "ACCEPTED"
                threading.Thread(target=self._live, args=(session,), daemon=True).start()
                return _shown(session)
            allowed = value in ("CANCELLED", "FAILED", "REJECTED")
            return _shown(session) | ({"phase": value} if allowed else {})

    def _live(self, session: dict[str, Any]) -> None:
        session["phase"] = "PREPARING"
        session["compute"]["phase"] = "WAITING"
        if session["executable"]["image"]["locations"][0] in self.no_image:
            session["executable"]["phase"] = session["phase"] = "FAILED"
            return
        session["executable"]["phase"] = "AVAILABLE"
        fetches = [
            threading.Thread(target=self._fetch, args=(item,), daemon=True)
            for item in session["data"]
            if item["location"].startswith("http")
        ]
        for fetch in fetches:
            fetch.start()
        while time.time() < session["_start"]:
            if any(item["phase"] == "FAILED" for item in session["data"]):
                session["phase"] = "FAILED"
                return
            time.sleep(0.02)
        if not session["data"]:
            session["phase"] = "AVAILABLE"
        code = self._run(session)
        for item in session["data"]:
            item["phase"] = "COMPLETED"
        if code != 0:
            session["compute"]["phase"] = session["phase"] = "FAILED"
            return
        session["compute"]["phase"] = session["phase"] = "RELEASING"
        time.sleep(self.tick)
        session["compute"]["phase"] = session["executable"]["phase"] = session["phase"] = "COMPLETED"

    def _fetch(self, item: dict[str, Any]) -> None:
        item["phase"] = "PREPARING"
        volume = self.folder / item["meta"]["uuid"]
        volume.mkdir(parents=True)
        time.sleep(self.download)
        try:
            with urllib.request.urlopen(item["location"], timeout=30) as answer:
                (volume / "content").write_bytes(answer.read())
        except (OSError, urllib.error.URLError):
            message = {"kind": "uri:http-download-failed", "level": "ERROR"}
            message |= {"template": "Download failed with exit code 8", "time": _instant(time.time())}
            item["meta"]["messages"] = [message]
            item["phase"] = "FAILED"
            return
        item["phase"] = "AVAILABLE"

    def _run(self, session: dict[str, Any]) -> int:
        """Run the command where the mounts of this moment are."""
        data = {item["meta"]["uuid"]: item for item in session["data"]}
        mounts: dict[str, Path] = {}
        for volume in sorted(session["compute"]["volumes"], key=lambda v: len(v["path"])):
            item = data[volume["resource"]]
            if item["location"].startswith("file://"):
                source = Path(item["location"].removeprefix("file://"))
                source.mkdir(parents=True, exist_ok=True) if not source.exists() else None
            elif item["phase"] == "AVAILABLE":
                source = self.folder / item["meta"]["uuid"] / ("content" if self.as_files else "")
            else:
                continue  # not there yet: silently without it
            outer = next((m for m in mounts if volume["path"].startswith(m + "/")), None)
            if outer is None and item["location"].startswith("http"):  # in the container's own file system
                outer = "/" + volume["path"].split("/")[1]
                mounts[outer] = self.folder / "containers" / session["meta"]["uuid"] / outer[1:]
                if self.root_is_closed:
                    mounts[outer].mkdir(parents=True)
                    (mounts[outer] / ".bridge").touch()
            if outer is None:
                mounts[volume["path"]] = source
                continue
            inner = mounts[outer] / volume["path"].removeprefix(outer + "/")
            if inner.is_dir():
                inner.rmdir()
            inner.unlink(missing_ok=True)
            inner.parent.mkdir(parents=True, exist_ok=True)
            inner.symlink_to(source)
        words = list(session["executable"]["command"] or [])
        image = session["executable"]["image"]["locations"][0]
        if image in self.no_shell:
            self.containers.append((words, 127))
            return 127
        session["compute"]["phase"] = "RUNNING"
        code = self._process([self._here(word, mounts) for word in words], mounts)
        self.containers.append((words, code))
        return code

    def _process(self, words: list[str], mounts: dict[str, Path]) -> int:
        if len(words) == 2 and words[0] == "sh" and Path(words[1]).exists():
            text = Path(words[1]).read_text()
            words = ["sh", "-c", self._here(text, mounts)]
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            environment = os.environ | ({} if self.path is None else {"PATH": self.path})
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                self.said.append(process.communicate(timeout=self.kill_after)[0].decode(errors="replace"))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            return process.returncode
        except OSError:
            return 127
        finally:
            with self._lock:
                self.running -= 1

    @staticmethod
    def _here(text: str, mounts: dict[str, Path]) -> str:
        for path, source in mounts.items():
            text = re.sub(re.escape(path) + r"(?![A-Za-z0-9_-])", str(source), text)
        return text


def _parts(request: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [request.get("executable"), request.get("compute")]
    parts += (request.get("data") or []) + (request.get("storage") or [])
    parts += (request.get("compute") or {}).get("volumes") or []
    return [part for part in parts if part]


def _texts(request: dict[str, Any]) -> list[str]:
    executable = request.get("executable") or {}
    texts = [*(executable.get("command") or []), *((executable.get("image") or {}).get("locations") or [])]
    texts += [text for pair in (executable.get("environment") or {}).items() for text in pair]
    texts += [item.get("location") or "" for item in request.get("data") or []]
    texts += [volume.get("path") or "" for volume in (request.get("compute") or {}).get("volumes") or []]
    return texts


def _refusals(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages of a NO: kind, level, template and time are all there ever is."""
    said: list[tuple[str, str, str]] = []
    executable, compute = request.get("executable"), request.get("compute") or {}
    if executable is None:
        said.append(("urn:executable-required", "WARN", "Description of the executable is required"))
    else:
        digest = executable["image"].get("digest")
        if digest is None:
            said.append(("urn:missing-value", "WARN", "DockerContainer - image digest is required"))
        elif digest.startswith("sha256:0000"):
            template = "DockerContainer - local image digest does not match requested digest for [{}]"
            said.append(("urn:image-digest-mismatch", "WARN", template))
    if request.get("storage"):
        said.append(("uri:unknown-type", "WARN", "Unknown kind [${kind}][${name}][${uuid}]"))
    usable = set()
    for item in request.get("data") or []:
        if item["location"].startswith(("file://", "http://", "https://")):
            usable.add((item.get("meta") or {}).get("name"))
        else:
            said.append(("uri:unknown-url", "WARN", "Unable to handle data location [${location}]"))
    if ((compute.get("cores") or {}).get("min") or 1) > 16:
        template = "SimpleComputeResource - Minimum cores exceeds available resources"
        said.append(("urn:resource-limit", "WARN", f"{template} [${{resource}}][${{cores}}][${{limit}}]"))
    for volume in compute.get("volumes") or []:
        if volume.get("resource") not in usable:
            said.append(("uri:resource-not-found", "ERROR", "Unable to locate resource [{}] for volume [{}]"))
    now = _instant(time.time())
    return [{"kind": kind, "level": level, "template": text, "time": now} for kind, level, text in said]


def _shown(session: dict[str, Any]) -> dict[str, Any]:
    """What is sent: nothing private, nothing empty."""
    shown = _full({key: value for key, value in session.items() if not key.startswith("_")})
    if not shown["compute"].get("volumes"):
        shown["compute"] = _full(shown["compute"])
    return json.loads(json.dumps(shown))  # type: ignore[no-any-return]


def _full(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value not in (None, [], {})}


def _instant(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")


def _duration(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    return f"PT{minutes // 60}H" if minutes % 60 == 0 else f"PT{minutes}M"


def _error(status: int, text: str) -> dict[str, Any]:
    return {"status": status, "error": text, "path": "/requests"}


class _Handler(BaseHTTPRequestHandler):
    broker: FakeCalycopis
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if not self.broker.allows(self.headers.get("authorization")):
            self._answer(401, _error(401, "Unauthorized"))
            return
        try:
            request = json.loads(body)
        except json.JSONDecodeError:
            self._answer(400, _error(400, "Bad Request"))
            return
        if self.path == "/requests":
            self.broker.requests.append(request)
            status, answer = self.broker.ask(request)
            self._answer(status, answer)
        elif self.path.startswith("/sessions/") and self.path.split("/")[2] in self.broker.sessions:
            self._answer(200, self.broker.update(self.path.split("/")[2], request["value"]))
        else:
            self._answer(404, None)

    def do_GET(self) -> None:
        session = self.broker.sessions.get(self.path.rpartition("/")[2])
        if self.path.startswith("/sessions/") and session:
            self._answer(200, _shown(session))
        else:
            self._answer(404, None)

    def _answer(self, status: int, content: dict[str, Any] | None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        if status == 303 and content:
            self.send_header("Location", content["meta"]["url"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


def clean(folder: Path) -> None:
    """Remove what a fake left."""
    shutil.rmtree(folder, ignore_errors=True)
