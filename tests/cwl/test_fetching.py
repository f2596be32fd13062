"""What workflows may read: their own folder, what the site allows, and nothing private."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from schema_salad.exceptions import ValidationException

from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.policy import Policy, fetch_http


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/text")
            self.end_headers()
            return
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
            self.end_headers()
            return
        self.send_response(200 if self.path == "/text" else 404)
        self.end_headers()
        self.wfile.write(b"text" * 100)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def policy(*folders: Path, **fetch: object) -> Policy:
    return Policy(FetchConfig.model_validate(fetch), folders)


def test_own_folder_is_readable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    policy(tmp_path).check(f"file://{tmp_path}/a")


@pytest.mark.parametrize("name", ["/etc/passwd", "{own}/../other", "{own}-evil/x"])
def test_other_files_are_not(tmp_path: Path, name: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(ValidationException, match="outside"):
        policy(own).check("file://" + name.format(own=own))


def test_a_link_out_of_the_folder_is_followed_and_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ValidationException, match="outside"):
        policy(tmp_path).check(f"file://{tmp_path}/link")


def test_site_folders_are_readable(tmp_path: Path) -> None:
    policy(files=[str(tmp_path)]).check(f"file://{tmp_path}/survey/map.fits")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://localhost:8080/x",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3/",
        "http://[::1]/",
        "http://0.0.0.0/",
    ],
)
def test_private_hosts_are_refused(url: str) -> None:
    with pytest.raises(ValidationException, match="private"):
        fetch_http(url, policy())


@pytest.mark.parametrize("url", ["ftp://example.org/x", "gopher://x", "javascript:1", "http:///nohost"])
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(ValidationException, match="Cannot read"):
        policy().check(url)


def test_private_hosts_can_be_allowed_by_network(site: str) -> None:
    assert fetch_http(site + "/moved", policy(private_hosts=["127.0.0.0/8"])).startswith(b"text")


def test_a_redirect_to_a_private_host_is_refused(site: str) -> None:
    with pytest.raises(ValidationException, match=r"169\.254.*private"):
        fetch_http(site + "/away", policy(private_hosts=["127.0.0.0/8"]))


def test_redirects_end(site: str) -> None:
    with pytest.raises(ValidationException, match="redirects"):
        fetch_http(site + "/loop", policy(private_hosts=["any"]))


def test_too_large_a_body_is_refused(site: str) -> None:
    with pytest.raises(ValidationException, match="larger than 100 bytes"):
        fetch_http(site + "/text", policy(private_hosts=["any"], max_bytes=100))


def test_a_missing_document_is_told(site: str) -> None:
    with pytest.raises(ValidationException, match="404"):
        fetch_http(site + "/none", policy(private_hosts=["any"]))


def test_an_unreachable_host_is_told() -> None:
    with pytest.raises(ValidationException, match="Cannot fetch"):
        fetch_http("http://127.0.0.1:9/x", policy(private_hosts=["any"]))
