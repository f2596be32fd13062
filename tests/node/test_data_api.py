"""Outputs that stay at the node: kept, read, leased and released, by their owner and by signed URLs."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, Starter, shell, texts
from tests.waiting import until
from wes_bridge.model.manifest import ManifestEntry, read_manifest


def keeping(script: str, lease: str | None = None, name: str = "out", **keep: object) -> Request:
    """A request whose output directory is kept."""
    request = Request(shell(script))
    asked = {**({"lease": lease} if lease else {}), **keep}
    request.data(f"{ROOT}/out", None, "READWRITE", access="WRITE", keep=asked)
    request.body["data"][-1]["meta"]["name"] = name
    request.body["compute"]["volumes"][-1]["resource"] = name
    return request


def output(session: dict[str, Any]) -> dict[str, Any]:
    """The kept output of a session."""
    return next(data for data in session["data"] if "kept" in data)


def listed(node: NodeProcess, url: str) -> dict[str, ManifestEntry]:
    answer = node.http.get(url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return {entry.path: entry for entry in read_manifest([answer.content])}


def signed(node: NodeProcess, session: dict[str, Any], **wish: str) -> dict[str, str]:
    url = f"{node.url}/urls/{session['meta']['uuid']}/out"
    answer = node.http.post(url, json=wish)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def made(plain: NodeProcess) -> dict[str, Any]:
    """A session that has left a few things."""
    script = (
        "mkdir d; printf content > d/a; chmod 755 d/a; printf 'a b' > 'sp ace#%'; ln -s d/a link; mkfifo pipe"
    )
    return plain.completed(keeping(script + "; head -c 3000000 /dev/zero > big; ln -s /etc/passwd away"))


# ---- keeping ---------------------------------------------------------------------------------------


def test_a_session_tells_where_its_output_is_and_what_is_in_it(
    plain: NodeProcess, made: dict[str, Any]
) -> None:
    data = output(made)
    uuid = made["meta"]["uuid"]
    assert data["location"] == f"{plain.url}/data/{uuid}/out/"
    kept = data["kept"]
    assert kept["manifest"] == f"{plain.url}/data/{uuid}/out"
    assert (kept["entries"], kept["files"], kept["bytes"]) == (7, 3, 7 + 3 + 3_000_000)
    left = datetime.fromisoformat(kept["expires"]) - datetime.now(UTC)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    found = listed(plain, kept["manifest"])
    assert list(found) == ["away", "big", "d", "d/a", "link", "pipe", "sp ace#%"]
    assert found["d/a"].checksum == f"sha1${hashlib.sha1(b'content').hexdigest()}"
    assert found["d/a"].mode == 0o755
    assert (found["link"].target, found["link"].note) == ("d/a", None)
    assert "leads out" in (found["away"].note or "")
    assert "a named pipe" in (found["pipe"].note or "")
    folder = plain.state / "kept" / uuid / "out"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_in_a_sandbox_too(node: NodeProcess) -> None:
    session = node.completed(keeping("echo x > a"))
    assert list(listed(node, output(session)["location"])) == ["a"]


def test_a_lease_as_long_as_is_asked_and_no_longer_than_the_longest(start_node: Starter) -> None:
    node = start_node(sandbox="none", kept={"max_lease": "PT2M"})
    for asked, seconds in (("PT1M", 60), ("P1D", 120)):
        kept = output(node.completed(keeping("echo x > a", asked)))["kept"]
        left = (datetime.fromisoformat(kept["expires"]) - datetime.now(UTC)).total_seconds()
        assert seconds - 30 < left <= seconds


def test_one_file_can_be_kept(plain: NodeProcess) -> None:
    request = Request(shell("printf x > 'the file'"))
    request.data(f"{ROOT}/out/the file", None, "READWRITE", access="WRITE", directory=False, keep={})
    data = output(plain.completed(request))
    assert data["kept"]["file"] == "the file"
    assert data["location"].endswith("/the%20file")
    assert plain.http.get(data["location"]).content == b"x"


def test_setuid_bits_are_dropped(plain: NodeProcess) -> None:
    session = plain.completed(keeping("echo x > a; chmod 6755 a"))
    assert listed(plain, output(session)["kept"]["manifest"])["a"].mode == 0o755


def test_streams_that_go_with_an_output_can_still_be_read(plain: NodeProcess) -> None:
    request = keeping("echo said")
    request.body["executable"]["streams"] = {"stdout": {"path": "said.txt"}}
    session = plain.completed(request)
    assert plain.stream(session) == "said\n"
    assert list(listed(plain, output(session)["location"])) == ["said.txt"]


def test_a_link_to_an_input_is_kept_as_a_copy(plain: NodeProcess, tmp_path: Any) -> None:
    (tmp_path / "input").write_text("an input")
    request = keeping(f"ln -s {ROOT}/in/a link").data(f"{ROOT}/in/a", (tmp_path / "input").as_uri())
    session = plain.completed(request)
    url = output(session)["location"]
    assert plain.http.get(f"{url}link").text == "an input"


def test_outputs_of_a_command_that_failed_are_kept(plain: NodeProcess) -> None:
    session = plain.run(keeping("echo x > a; exit 3"))
    assert session["phase"] == "FAILED"
    assert list(listed(plain, output(session)["location"])) == ["a"]


def test_nothing_is_kept_of_what_was_cancelled(plain: NodeProcess) -> None:
    session = plain.begin(keeping("echo x > a; sleep 600"))
    plain.until(session, lambda now: now["phase"] == "RUNNING")
    plain.update(session, "CANCELLED")
    assert plain.end(session)["phase"] == "CANCELLED"
    assert plain.http.get(f"{plain.url}/data/{session['meta']['uuid']}/out").status_code == 404
    assert not (plain.state / "kept" / session["meta"]["uuid"]).exists()


def test_an_output_that_is_not_there_fails_the_session(plain: NodeProcess) -> None:
    session = plain.run(keeping(f"cd /; rm -r {ROOT}/out"))
    assert session["phase"] == "FAILED"
    assert "the command left nothing there" in texts(session)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"location": "file:///tmp/x"}, "leave one of them out"),
        ({"access": "READ"}, "only an output can be kept"),
        ({"keep": {"checksums": ["crc32"]}}, "crc32 is not known here"),
        ({"meta": {"name": "a/b"}}, "can be no part of a URL"),
        ({"meta": {"name": ".."}}, "can be no part of a URL"),
    ],
)
def test_what_cannot_be_kept_is_refused(plain: NodeProcess, change: dict[str, Any], reason: str) -> None:
    request = keeping("true")
    request.body["data"][-1] |= change
    request.body["compute"]["volumes"][-1]["resource"] = request.body["data"][-1]["meta"]["name"]
    assert any(reason in message["message"] for message in plain.refused(request))


@pytest.mark.parametrize("lease", ["soon", "-PT1H", "PT0S", "P1Y"])
def test_a_lease_that_is_no_duration_is_a_bad_request(plain: NodeProcess, lease: str) -> None:
    answer = plain.http.post(f"{plain.url}/requests", json=keeping("true", lease).body)
    assert answer.status_code == 400
    assert "keep.lease" in answer.json()["message"]


def test_more_than_may_be_kept_fails_the_session(start_node: Starter) -> None:
    node = start_node(sandbox="none", kept={"gib": 0.001})
    session = node.run(keeping("head -c 2000000 /dev/zero > a"))
    assert session["phase"] == "FAILED"
    assert "release outputs that nobody needs any more" in texts(session)
    assert node.http.get(f"{node.url}/status").json()["kept"]["bytes"] == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_that_is_killed_keeps_what_it_kept(start_node: Starter, how: int) -> None:
    node = start_node("--log-level=warning", sandbox="none")
    before = node.completed(keeping("echo before > a"))
    running = node.begin(keeping("echo late > a; while [ ! -e go ]; do sleep 0.02; done"))
    node.until(running, lambda now: now["phase"] == "RUNNING")
    url = signed(node, before)["template"]
    node.kill(how)
    (node.state / "sessions" / running["meta"]["uuid"] / "fs/out/go").touch()
    port = urlsplit(node.url).port
    node.config["port"] = port  # the URLs are for it
    node.start()
    uuid = before["meta"]["uuid"]
    assert node.http.get(f"{node.url}/data/{uuid}/out/a").text == "before\n"
    assert node.http.get(url.replace("{+path}", "a")).text == "before\n"
    assert set(listed(node, output(node.end(running))["location"])) == {"a", "go"}


# ---- reading ---------------------------------------------------------------------------------------


def test_files_are_read_by_range_and_version(plain: NodeProcess, made: dict[str, Any]) -> None:
    url = output(made)["location"] + "d/a"
    whole = plain.http.get(url)
    assert whole.content == b"content"
    etag = whole.headers["etag"]
    assert etag == f'"sha1${hashlib.sha1(b"content").hexdigest()}"'
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == "attachment"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["wes-bridge-executable"] == "true"
    head = plain.http.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "7", b"")
    part = plain.http.get(url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"nte")
    assert part.headers["content-range"] == "bytes 2-4/7"
    assert plain.http.get(url, headers={"Range": "bytes=-2"}).content == b"nt"
    beyond = plain.http.get(url, headers={"Range": "bytes=7-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */7")
    assert plain.http.get(url, headers={"If-None-Match": etag}).status_code == 304
    same = {"Range": "bytes=0-0", "If-Range": etag}
    assert plain.http.get(url, headers=same).status_code == 206
    other = {"Range": "bytes=0-0", "If-Range": '"sha1$0"'}
    assert plain.http.get(url, headers=other).status_code == 200


def test_a_long_file_comes_whole(plain: NodeProcess, made: dict[str, Any]) -> None:
    answer = plain.http.get(output(made)["location"] + "big")
    assert answer.headers["content-length"] == "3000000"
    assert answer.content == bytes(3_000_000)


def test_names_with_any_bytes_are_found(plain: NodeProcess) -> None:
    names = [b"new\nline", b"\xff\xfe", b"a?b", b"..x", "ä".encode(), b"%2F"]
    made = plain.completed(_writing(names))
    url = output(made)["location"]
    found = listed(plain, url)
    assert set(found) == {os.fsdecode(name) for name in names}
    for name in names:
        assert plain.http.get(url + quote(name, safe="")).content == name


def _writing(names: list[bytes]) -> Request:
    lines = ["".join(f"\\{byte:03o}" for byte in name) for name in names]
    script = "".join(f"n=$(printf '{line}.'); n=\"${{n%.}}\"; printf '{line}' > \"$n\"; " for line in lines)
    return keeping(script)


def test_folders_are_manifests(plain: NodeProcess, made: dict[str, Any]) -> None:
    url = output(made)["location"]
    assert list(listed(plain, url + "d/")) == list(listed(plain, url + "d")) == ["a"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "has no file nothing"),
        ("d/a/", "has no folder d/a"),
        ("link", "links are not followed"),
        ("away", "links are not followed"),
        ("link/x", "has no file"),
        ("pipe", "a named pipe"),
        ("%2e%2e/out/d/a", "no address of a kept output"),
        ("d%2fa", "no address of a kept output"),
        ("d//a", "no address of a kept output"),
        ("a%00", "no address of a kept output"),
        ("%2fetc%2fpasswd", "no address of a kept output"),
    ],
)
def test_what_is_no_file_is_not_there(
    plain: NodeProcess, made: dict[str, Any], path: str, reason: str
) -> None:
    answer = plain.http.get(output(made)["location"] + path)
    assert answer.status_code == 404
    assert reason in answer.json()["message"]


def test_a_file_that_was_changed_is_not_sent(plain: NodeProcess) -> None:
    made = plain.completed(keeping("echo x > a"))
    uuid = made["meta"]["uuid"]
    (plain.state / "kept" / uuid / "out/files/a").write_text("y\n")
    answer = plain.http.get(output(made)["location"] + "a")
    assert answer.status_code == 410
    assert "was changed after its checksum had been computed" in answer.json()["message"]


# ---- leases ----------------------------------------------------------------------------------------


def test_a_lease_is_looked_at_renewed_and_given_back(plain: NodeProcess) -> None:
    made = plain.completed(keeping("echo x > a", "PT1M"))
    uuid = made["meta"]["uuid"]
    lease = f"{plain.url}/leases/{uuid}/out"
    first = plain.http.get(lease).json()
    assert (first["files"], first["bytes"]) == (1, 2)
    later = plain.http.post(lease, json={"lease": "PT2H"}).json()
    assert datetime.fromisoformat(later["expires"]) > datetime.fromisoformat(first["expires"])
    assert plain.http.post(lease).status_code == 200
    assert plain.http.post(lease, json={"lease": "never"}).status_code == 400
    assert plain.http.delete(f"{plain.url}/data/{uuid}/out").status_code == 204
    for method, url in (("GET", lease), ("POST", lease), ("DELETE", f"{plain.url}/data/{uuid}/out")):
        gone = plain.http.request(method, url)
        assert gone.status_code == 404
        assert "its lease ran out" in gone.json()["message"]
    assert not (plain.state / "kept" / uuid).exists()


def test_a_lease_that_runs_out_frees_the_output(plain: NodeProcess) -> None:
    made = plain.completed(keeping("echo x > a", "PT0.5S"))
    uuid = made["meta"]["uuid"]
    until(lambda: not (plain.state / "kept" / uuid).exists(), 20)
    assert plain.http.get(f"{plain.url}/data/{uuid}/out").status_code == 404


def test_what_is_kept_is_shown_and_counted(start_node: Starter) -> None:
    node = start_node(sandbox="none", storage_gib=1)
    made = node.completed(keeping("head -c 1000 /dev/zero > a"))
    status = node.http.get(f"{node.url}/status").json()["kept"]
    assert status == {
        "outputs": 1,
        "files": 1,
        "bytes": 1000,
        "limit": 1 << 30,
        "linked": 0,
        "served": 0,
        "fetched": 0,
    }
    booking = node.http.get(f"{node.url}/bookings").json()[0]
    assert (booking["session"], booking["kept"]) == (made["meta"]["uuid"], "out")
    assert (booking["cores"], booking["storage"], booking["phase"]) == (0, 1000, "COMPLETED")
    assert booking["end"] == output(made)["kept"]["expires"]
    node.http.get(output(made)["location"] + "a", headers={"Range": "bytes=0-99"})
    assert node.http.get(f"{node.url}/status").json()["kept"]["served"] == 100


# ---- signed URLs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(start_node: Starter) -> NodeProcess:
    """A node that wants credentials of everybody."""
    node = start_node(sandbox="none", authentication={"same_user": False})
    node.http.headers["Authorization"] = f"Bearer {(node.state / 'token').read_text().strip()}"
    return node


@pytest.fixture(scope="module")
def private(guarded: NodeProcess) -> dict[str, Any]:
    return guarded.completed(keeping("mkdir -p d dd; printf content > d/a; printf x > b; printf y > dd/a"))


def stranger(url: str, method: str = "GET", **more: Any) -> tuple[int, str]:
    """What somebody without credentials is answered."""
    answer = httpx.request(method, url, timeout=30, **more)
    text = answer.text
    return answer.status_code, answer.json()["message"] if answer.status_code >= 400 and text else text


def test_without_credentials_nothing_is_there(guarded: NodeProcess, private: dict[str, Any]) -> None:
    assert stranger(output(private)["location"])[0] == 401
    assert stranger(output(private)["location"] + "b")[0] == 401


def test_one_signed_url_serves_a_whole_output(guarded: NodeProcess, private: dict[str, Any]) -> None:
    given = signed(guarded, private)
    assert next(read_manifest([stranger(given["url"])[1].encode()])).path == "b"
    for path, content in (("b", "x"), ("d/a", "content"), ("dd/a", "y")):
        url = given["template"].replace("{+path}", path)
        assert stranger(url) == (200, content)
        assert stranger(url, "HEAD")[0] == 200
        assert stranger(url, headers={"Range": "bytes=0-0"}) == (206, content[0])


@pytest.mark.parametrize(("path", "good"), [("d/", {"d/a", "d", "d/"}), ("d/a", {"d/a"}), ("b", {"b"})])
def test_a_signed_url_is_for_what_it_says(
    guarded: NodeProcess, private: dict[str, Any], path: str, good: set[str]
) -> None:
    given = signed(guarded, private, path=path)
    query = urlsplit(given["url"]).query
    base = output(private)["location"]
    for asked in ("d/a", "d", "d/", "b", "dd/a", "dd/", "", "b/"):
        status, text = stranger(f"{base}{asked}?{query}")
        assert (status == 200) is (asked in good), (asked, text)
        if asked not in good:
            assert status == 403
            assert "is signed for" in text
            assert "ask the session's owner" in text


def test_a_signed_url_is_for_reading_that_output_only(guarded: NodeProcess, private: dict[str, Any]) -> None:
    other = guarded.completed(keeping("echo secret > a"))
    query = urlsplit(signed(guarded, private)["url"]).query
    uuid = private["meta"]["uuid"]
    assert stranger(f"{output(other)['location']}a?{query}")[0] == 403
    status, text = stranger(f"{guarded.url}/data/{uuid}/out?{query}", "DELETE")
    assert (status, "GET and HEAD only" in text) == (403, True)
    for method, path in (
        ("GET", f"/sessions/{uuid}"),
        ("GET", f"/leases/{uuid}/out"),
        ("POST", f"/leases/{uuid}/out"),
        ("POST", f"/urls/{uuid}/out"),
        ("POST", "/requests"),
        ("POST", "/admin/drain"),
        ("GET", "/bookings"),
    ):
        assert stranger(f"{guarded.url}{path}?{query}", method)[0] == 401


def test_a_signed_url_that_was_changed_is_refused(guarded: NodeProcess, private: dict[str, Any]) -> None:
    url = signed(guarded, private, path="b")["url"]
    fields = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    base = url.partition("?")[0]
    wrong = {
        "expires": str(int(fields["expires"]) + 1),
        "scope": fields["scope"].removesuffix("b"),
        "signature": "0" * 64,
        "key": "ffffffffffff",
    }
    for name, value in wrong.items():
        status, text = stranger(f"{base}?{urlencode(fields | {name: value})}")
        assert status == 403
        assert "POST /urls/SESSION/OUTPUT" in text
    for query in (
        "signature=",
        f"signature={fields['signature']}",
        urlencode(fields) + "&scope=%2F",
        urlencode(fields | {"expires": "soon"}),
        urlencode(fields | {"expires": "-1"}),
        "signature=%ff&" * 50,
    ):
        assert stranger(f"{base}?{query}")[0] == 403
    assert stranger(url, headers={"Authorization": "Bearer nonsense"})[0] == 200


def test_a_signed_url_is_for_one_host(guarded: NodeProcess, private: dict[str, Any]) -> None:
    url = signed(guarded, private, path="b")["url"]
    port = urlsplit(url).port
    status, text = stranger(url, headers={"Host": f"localhost:{port}"})
    assert (status, "made for another than" in text) == (403, True)


def test_a_signed_url_expires(guarded: NodeProcess, private: dict[str, Any]) -> None:
    url = signed(guarded, private, path="b", lifetime="PT1S")["url"]
    until(lambda: stranger(url)[0] == 403, 20)
    assert "has expired" in stranger(url)[1]
    latest = time.time() + 24 * 3600
    longest = signed(guarded, private, path="b", lifetime="P9D")["expires"]
    assert datetime.fromisoformat(longest).timestamp() <= latest


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "%2e%2e", "a%00"])
def test_no_url_is_signed_for_what_is_no_path(
    guarded: NodeProcess, private: dict[str, Any], path: str
) -> None:
    uuid = private["meta"]["uuid"]
    answer = guarded.http.post(f"{guarded.url}/urls/{uuid}/out", json={"path": path})
    assert answer.status_code == 400


def test_the_keys_are_the_node_s_own(guarded: NodeProcess, private: dict[str, Any]) -> None:
    signed(guarded, private)
    file = guarded.state / "url-keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# ---- whose -----------------------------------------------------------------------------------------


def test_an_output_is_its_owner_s(start_node: Starter, tmp_path: Any) -> None:
    (tmp_path / "key").write_text("a-service-secret-of-some-length\n")
    services = [{"name": "wes", "file": str(tmp_path / "key")}]
    node = start_node(sandbox="none", authentication={"services": services, "same_user": False})

    def as_user(name: str) -> dict[str, str]:
        return {"Authorization": "Bearer a-service-secret-of-some-length", "On-Behalf-Of": name}

    node.http.headers.update(as_user("alice"))
    made = node.completed(keeping("echo x > a"))
    uuid, base = made["meta"]["uuid"], output(made)["location"]
    assert node.http.get(f"{base}a").text == "x\n"
    node.http.headers.update(as_user("bob"))
    for method, url in (
        ("GET", base),
        ("GET", f"{base}a"),
        ("GET", f"{node.url}/leases/{uuid}/out"),
        ("POST", f"{node.url}/leases/{uuid}/out"),
        ("POST", f"{node.url}/urls/{uuid}/out"),
        ("DELETE", f"{node.url}/data/{uuid}/out"),
    ):
        theirs = node.http.request(method, url)
        missing = node.http.request(method, url.replace(uuid, "00000000-0000-4000-8000-000000000000"))
        assert theirs.status_code == missing.status_code == 404
        assert theirs.text.replace(uuid, "") == missing.text.replace(
            "00000000-0000-4000-8000-000000000000", ""
        )
    booking = node.http.get(f"{node.url}/bookings").json()[0]
    assert not {"session", "kept", "name"} & booking.keys()
