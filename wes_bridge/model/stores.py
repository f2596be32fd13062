"""Stores of data that a configuration can name: object stores and WebDAV servers, and plug-ins' own.

Only the shape is here. What a site writes into its configuration is trusted: the guard of ``fetching`` lets
these hosts through, private or not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, ConfigDict, Field, JsonValue, model_validator

from wes_bridge.model.access import SecretConfig
from wes_bridge.model.delegation import DelegatedTo

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _area(text: str) -> str:
    """A bucket, or a bucket and the beginning of a path in it, without slashes around."""
    bucket, _, prefix = text.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(
            "must be BUCKET or BUCKET/FOLDER, where the name of a bucket has 3 or more letters,"
            " digits, '.', '-' and '_'"
        )
    if any(part in ("", ".", "..") for part in prefix.rstrip("/").split("/")) and prefix.rstrip("/"):
        raise ValueError("must not have '.', '..' or an empty part between slashes")
    return text.rstrip("/")


Area = Annotated[str, AfterValidator(_area)]


def _prefix(text: str) -> str:
    text = text.strip("/")
    if text and any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError("must not have '.', '..' or an empty part between slashes")
    return text


def _dav(text: str) -> str:
    scheme, sep, rest = text.partition("://")
    if not sep or scheme not in ("dav", "davs", "webdav", "webdavs") or not rest.partition("/")[0]:
        raise ValueError("must begin with davs://HOST/ (or dav://HOST/ without encryption)")
    if "@" in rest.partition("/")[0]:
        raise ValueError("must not hold a user or a password: use token")
    if "?" in text or "#" in text or ".." in rest.split("/"):
        raise ValueError("must not have '?', '#' or '..'")
    return text if "/" in rest else text + "/"


class S3CredentialsConfig(_Section):
    """Where the keys of an object store are: in variables of the environment, or in a file as the AWS tools
    write it. Either is read again every few minutes, so keys can be changed while the node runs."""

    env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="AWS: the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN;"
        " another word stands in the place of AWS",
    )
    file: Path | None = Field(None, description="as ~/.aws/credentials")
    profile: str = Field("default", min_length=1, description="section of the file")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file: the place of the keys")
        return self


class S3StoreConfig(_Section):
    """How an object store (S3, or compatible with it) is reached."""

    endpoint: AnyHttpUrl | None = Field(None, description="URL of the store; default: AWS's of the region")
    region: str = Field("us-east-1", min_length=1, description="as the store names it")
    path_style: bool = Field(True, description="https://HOST/BUCKET/; false: https://BUCKET.HOST/")
    credentials: S3CredentialsConfig | None = Field(None, description="default: requests are not signed")
    ca_file: Path | None = Field(
        None, description="certificates (PEM) of authorities that are believed beside the public ones"
    )

    @model_validator(mode="after")
    def _endpoint_is_a_host(self) -> Self:
        if self.endpoint is not None and (self.endpoint.username or self.endpoint.password):
            raise ValueError("endpoint must not hold a password: use credentials")
        return self


class S3Config(S3StoreConfig):
    """An object store that a node stages from, and which parts of it."""

    read: list[Area] = Field(default_factory=list, description="BUCKET or BUCKET/FOLDER that may be read")
    write: list[Area] = Field(default_factory=list, description="the same for outputs")

    @model_validator(mode="after")
    def _has_a_use(self) -> Self:
        if not self.read and not self.write:
            raise ValueError("name what may be read (read: [sky]) or written (write: [results/2026])")
        return self


class WebdavConfig(_Section):
    """A folder of a WebDAV server that a node stages from."""

    url: Annotated[str, AfterValidator(_dav)] = Field(description="davs://HOST/FOLDER/")
    token: SecretConfig | None = Field(None, description="the node's own bearer token; default: none")
    user_tokens: Path | None = Field(
        None,
        description="folder with a bearer token for each user, in files by their names (percent-encoded);"
        " what is fetched with one is for that user only",
    )
    delegation: DelegatedTo | None = Field(
        None, description="the token of the user that it wants to see, in place of these (docs/storage.md)"
    )
    write: bool = Field(False, description="whether outputs may be written there")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.delegation is not None and (self.token is not None or self.user_tokens is not None):
            raise ValueError("with delegation there is no other token: leave out token and user_tokens")
        return self


def _web(text: str) -> str:
    scheme, sep, rest = text.partition("://")
    if not sep or scheme not in ("http", "https") or not rest.partition("/")[0]:
        raise ValueError("must begin with https://HOST/ (or http://HOST/ without encryption)")
    if "@" in rest.partition("/")[0] or any(sign in text for sign in "?#"):
        raise ValueError("must not hold a user or a password, '?' or '#'")
    if ".." in rest.split("/"):
        raise ValueError("must not have '..' between slashes")
    return text if text.endswith("/") else text + "/"


class WebFolderConfig(_Section):
    """Web addresses, beside ``data``, that want to see a token of the user."""

    url: Annotated[str, AfterValidator(_web)] = Field(description="https://HOST/FOLDER/: how they begin")
    delegation: DelegatedTo = Field(description="the token of the user that is wanted there")


class DirectoryWorkspaceConfig(_Section):
    """Outputs of runs in a folder."""

    kind: Literal["directory"]
    path: Path = Field(description="the folder; all machines of the service see it here")


class _ObjectsWorkspaceConfig(_Section):
    """What object stores of all kinds have as a store for outputs."""

    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "", description="of all keys, without slashes around"
    )
    timeout: float = Field(30.0, gt=0, description="seconds without progress until a transfer is given up")
    signed_urls: bool = Field(
        True, description="whether downloads are sent on to the store, by URLs that expire"
    )
    url_lifetime: Annotated[int, Field(gt=0, le=604_800)] = Field(
        300, description="seconds such a URL can be used"
    )
    ca_file: Path | None = Field(
        None, description="certificates (PEM) of authorities that are believed beside the public ones"
    )

    @model_validator(mode="after")
    def _signs(self) -> Self:
        if self.signed_urls and getattr(self, "credentials", None) is None:
            raise ValueError("signed URLs need credentials; give them, or signed_urls: false")
        return self


class S3WorkspaceConfig(S3StoreConfig, _ObjectsWorkspaceConfig):
    """Outputs of runs in an object store."""

    kind: Literal["s3"]
    bucket: Annotated[str, Field(pattern=f"^{_BUCKET.pattern}$")]
    public_endpoint: AnyHttpUrl | None = Field(
        None, description="what clients call the store, for those URLs; default: endpoint"
    )


class GcsWorkspaceConfig(_ObjectsWorkspaceConfig):
    """Outputs of runs in Google Cloud Storage."""

    kind: Literal["gcs"]
    bucket: Annotated[str, Field(pattern=f"^{_BUCKET.pattern}$")]
    credentials: SecretConfig | None = Field(
        None, description="the JSON key of a service account; default: requests are not signed"
    )
    endpoint: AnyHttpUrl | None = Field(None, description="URL of the store; default: Google's")


class AzureWorkspaceConfig(_ObjectsWorkspaceConfig):
    """Outputs of runs in Azure Blob Storage."""

    kind: Literal["azure"]
    account: Annotated[str, Field(pattern=r"^[a-z0-9]{3,24}$")]
    container: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")]
    credentials: SecretConfig | None = Field(
        None, description="an access key of the account; default: requests are not signed"
    )
    endpoint: AnyHttpUrl | None = Field(None, description="URL of the account; default: Azure's")


class WebdavWorkspaceConfig(_Section):
    """Outputs of runs in a folder of a WebDAV server."""

    kind: Literal["webdav"]
    url: Annotated[str, AfterValidator(_dav)] = Field(description="davs://HOST/FOLDER/")
    token: SecretConfig | None = Field(None, description="the service's bearer token; default: none")
    timeout: float = Field(30.0, gt=0, description="seconds without progress until a transfer is given up")
    ca_file: Path | None = Field(
        None, description="certificates (PEM) of authorities that are believed beside the public ones"
    )


ObjectsWorkspaceConfig = S3WorkspaceConfig | GcsWorkspaceConfig | AzureWorkspaceConfig
WorkspaceStoreConfig = Annotated[
    DirectoryWorkspaceConfig | ObjectsWorkspaceConfig | WebdavWorkspaceConfig, Field(discriminator="kind")
]


class DataPluginConfig(_Section):
    """A data scheme that another package brings (entry point wes_bridge.data)."""

    name: str = Field(min_length=1, description="of the entry point")
    settings: dict[str, JsonValue] = Field(default_factory=dict, description="as the plug-in wants them")
