"""Stores as the configuration names them: one place where a kind of store becomes a store."""

from __future__ import annotations

from wes_bridge.model.stores import DirectoryWorkspaceConfig, WebdavWorkspaceConfig, WorkspaceStoreConfig
from wes_bridge.storage.base import Storage


def open_storage(config: WorkspaceStoreConfig) -> Storage:
    """A store.

    Raises:
        OSError, ValueError: it cannot be made of these settings; nothing is asked yet.
    """
    if isinstance(config, DirectoryWorkspaceConfig):
        from wes_bridge.storage.directory import DirectoryStorage  # noqa: PLC0415

        return DirectoryStorage(config.path)
    if isinstance(config, WebdavWorkspaceConfig):
        from wes_bridge.storage.webdav import WebdavStorage  # noqa: PLC0415

        return WebdavStorage(config)
    from wes_bridge.storage.clouds import object_storage  # noqa: PLC0415 - its library is large

    return object_storage(config)
