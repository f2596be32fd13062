"""The small synchronous WES client: ``requests`` and the standard library; of wes-bridge only ``model``.

``WESClient`` speaks the published WES 1.1.0 and so works with other servers too; wes-bridge's additions
(filters, delete, logs by range) are used where a server has them.
"""

from wes_bridge.client.api import WESClient
from wes_bridge.client.errors import DownloadError, WaitTimeoutError, WESConnectionError, WESError
from wes_bridge.client.states import FINAL_STATES

__all__ = [
    "FINAL_STATES",
    "DownloadError",
    "WESClient",
    "WESConnectionError",
    "WESError",
    "WaitTimeoutError",
]
