"""Google's and Azure's stores: what the configuration makes of them. No test has a server of theirs: only the
URLs and the shape of signatures are looked at, and requests go where nobody answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from wes_bridge.cli.configure import service_config
from wes_bridge.cli.settings import SettingsError
from wes_bridge.config import ServiceConfig
from wes_bridge.storage.base import Storage, StoreError
from wes_bridge.storage.opening import open_storage


@pytest.fixture(scope="module")
def service_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of nobody's."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "wes@example.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "private_key_id": "1",
    }
    path = tmp_path_factory.mktemp("keys") / "account.json"
    path.write_text(json.dumps(account))
    return path


def storage(**kept: object) -> Storage:
    config = ServiceConfig.model_validate({"outputs_store": kept}).outputs_store
    assert config is not None
    return open_storage(config)


def test_google_signs_with_the_service_account(service_account: Path) -> None:
    store = storage(kind="gcs", bucket="results", prefix="wes", credentials={"file": str(service_account)})
    url = store.signed_url("run/outputs/a b", "GET", 300)
    assert url is not None
    split, query = urlsplit(url), parse_qs(urlsplit(url).query)
    assert (split.scheme, split.netloc) == ("https", "storage.googleapis.com")
    assert split.path == "/results/wes/run/outputs/a%20b"
    assert query["X-Goog-Expires"] == ["300"]
    assert query["X-Goog-Credential"][0].startswith("wes@example.iam.gserviceaccount.com/")


def test_azure_signs_with_the_account_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_KEY", base64.b64encode(b"of nobody").decode())
    store = storage(
        kind="azure", account="srcnet", container="results", prefix="wes", credentials={"env": "STORE_KEY"}
    )
    url = store.signed_url("run/outputs/a", "GET", 300)
    assert url is not None
    split = urlsplit(url)
    assert split.netloc == "srcnet.blob.core.windows.net"
    assert split.path == "/results/wes/run/outputs/a"
    assert {"sig", "se", "sp"} <= parse_qs(split.query).keys()


@pytest.mark.parametrize(
    "kept",
    [
        {"kind": "gcs", "bucket": "results"},
        {"kind": "azure", "account": "srcnet", "container": "results"},
    ],
)
def test_a_server_that_is_not_there(kept: dict[str, object]) -> None:
    """What is in the environment by chance leads nowhere else."""
    store = storage(**kept, endpoint="http://127.0.0.1:9", signed_urls=False, timeout=0.2)
    assert store.signed_url("run/a", "GET", 60) is None
    with pytest.raises(StoreError, match="the store cannot be asked"):
        store.stat("run/a")


WRONG = {
    "no kind": ("outputs_store: {bucket: results}\n", "kind"),
    "an unknown kind": ("outputs_store: {kind: ftp}\n", "'directory', 's3', 'gcs', 'azure', 'webdav'"),
    "no credentials to sign with": (
        "outputs_store: {kind: gcs, bucket: results}\n",
        "signed URLs need credentials",
    ),
    "no key of a service account": (
        "outputs_store: {kind: gcs, bucket: results, credentials: {file: text}}\n",
        "no JSON key of a service account",
    ),
    "no file of credentials": (
        "outputs_store: {kind: gcs, bucket: results, credentials: {file: nothing}}\n",
        "nothing",
    ),
    "no account": ("outputs_store: {kind: azure, container: results, signed_urls: false}\n", "account"),
    "a key that is none": (
        "outputs_store: {kind: azure, account: srcnet, container: results, credentials: {file: text}}\n",
        "outputs_store",
    ),
    "a web address": ("outputs_store: {kind: webdav, url: 'https://h/'}\n", "must begin with davs://"),
    "no host": ("outputs_store: {kind: webdav, url: 'davs://a b/'}\n", "is no host name"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_mistake_is_told_when_the_service_starts(tmp_path: Path, name: str) -> None:
    text, says = WRONG[name]
    (tmp_path / "text").write_text("this is no key!")
    file = tmp_path / "service.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        service_config(file, {}, {})
    [problem] = caught.value.problems
    assert problem.where.startswith(f"{file}:1")
    assert says in problem.message
