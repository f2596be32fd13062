"""Clients of the object stores that a service can keep outputs in: S3, Google Cloud Storage, Azure.

As with S3, nothing that is in the environment by chance counts: what is not configured is not used.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore

from wes_bridge.auth.tokens import secret_of
from wes_bridge.model.stores import (
    AzureWorkspaceConfig,
    GcsWorkspaceConfig,
    ObjectsWorkspaceConfig,
    S3WorkspaceConfig,
)
from wes_bridge.storage.objects import ObjectStorage
from wes_bridge.storage.obstores import Times, client_options, retries, words
from wes_bridge.storage.s3 import bucket_of

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig


def object_storage(config: ObjectsWorkspaceConfig) -> ObjectStorage:
    """A store for outputs.

    Raises:
        OSError: a secret or a file of authorities cannot be read.
        ValueError: it cannot be made of these settings.
    """
    times = Times(config.timeout)
    if isinstance(config, S3WorkspaceConfig):
        s3 = bucket_of(config, config.bucket, times)
        public = config.public_endpoint
        known = config if public is None else config.model_copy(update={"endpoint": public})
        signer = bucket_of(known, config.bucket, times) if config.signed_urls else None
        return ObjectStorage(s3, config.prefix, signer)
    try:
        made = _gcs(config, times) if isinstance(config, GcsWorkspaceConfig) else _azure(config, times)
    except BaseError as error:
        raise ValueError(words(error)) from error
    return ObjectStorage(made, config.prefix, made if config.signed_urls else None)


def _gcs(config: GcsWorkspaceConfig, times: Times) -> GCSStore:
    settings: GCSConfig = {"skip_signature": config.credentials is None}
    if config.credentials is not None:
        settings["service_account_key"] = _service_account(secret_of(config.credentials))
    endpoint = _endpoint(config)
    if endpoint is not None:
        settings["base_url"] = endpoint
    options = _options(config, times)
    return GCSStore(config.bucket, config=settings, client_options=options, retry_config=retries(times))


def _service_account(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"client_email", "private_key"} <= found.keys():
        raise ValueError("the credentials are no JSON key of a service account")
    return text


def _azure(config: AzureWorkspaceConfig, times: Times) -> AzureStore:
    settings: AzureConfig = {"account_name": config.account, "skip_signature": config.credentials is None}
    if config.credentials is not None:
        settings["account_key"] = secret_of(config.credentials)
    endpoint = _endpoint(config)
    if endpoint is not None:
        settings["endpoint"] = endpoint
    options = _options(config, times)
    return AzureStore(config.container, config=settings, client_options=options, retry_config=retries(times))


def _options(config: GcsWorkspaceConfig | AzureWorkspaceConfig, times: Times) -> ClientConfig:
    encrypted = not (_endpoint(config) or "").startswith("http:")
    return client_options(times, encrypted=encrypted, ca_file=config.ca_file)


def _endpoint(config: GcsWorkspaceConfig | AzureWorkspaceConfig) -> str | None:
    return None if config.endpoint is None else str(config.endpoint).rstrip("/")
