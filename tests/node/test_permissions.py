"""Of a file's permissions a node carries that to execute it, and none that give its owner's rights."""

from __future__ import annotations

import http.server
import stat
import threading
from pathlib import Path

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, shell
from wes_bridge.model.headers import EXECUTABLE

PROGRAM = "#!/bin/sh\necho ran\n"


def test_a_private_copy_can_be_run_without_rights_of_its_owner(plain: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "prog", tmp_path / "d" / "prog"):
        path.write_text(PROGRAM)
        path.chmod(0o6555)
    request = Request(shell("./prog; d/prog; stat -c %a prog d/prog"))
    request.data(f"{ROOT}/out/prog", (tmp_path / "prog").as_uri(), "READWRITE", copy=True)
    request.data(f"{ROOT}/out/d", (tmp_path / "d").as_uri(), "READWRITE", copy=True)
    assert plain.stream(plain.completed(request)) == "ran\nran\n755\n755\n"


def test_an_output_has_no_rights_of_its_owner(plain: NodeProcess, tmp_path: Path) -> None:
    command = "mkdir d; for f in prog d/prog; do echo >$f; chmod 6755 $f; done; ln -s prog link; chmod 2755 d"
    out = tmp_path / "out"
    plain.completed(Request(shell(command)).output(out))
    assert {oct(stat.S_IMODE((out / name).stat().st_mode)) for name in ("prog", "d/prog")} == {"0o755"}


@pytest.mark.parametrize("mode", ["READONLY", "READWRITE"])
def test_a_program_from_the_web_can_be_run(plain: NodeProcess, mode: str) -> None:
    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header(EXECUTABLE, "true" if self.path == "/prog" else "no")
            self.send_header("Content-Length", str(len(PROGRAM)))
            self.end_headers()
            self.wfile.write(PROGRAM.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        request = Request(shell(f"{ROOT}/in/prog; test -x {ROOT}/in/text || echo text"))
        request.data(f"{ROOT}/in/prog", f"{url}/prog", mode).data(f"{ROOT}/in/text", f"{url}/text", mode)
        assert plain.stream(plain.completed(request)) == "ran\ntext\n"
        server.shutdown()
