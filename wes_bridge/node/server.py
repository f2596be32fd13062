"""The node as an ASGI application: ``api`` answers the operations of our OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from wes_bridge.config import NodeConfig
from wes_bridge.node.api import Api
from wes_bridge.node.node import Node
from wes_bridge.surface.app import BrokerApp, load_document


def create_app(config: NodeConfig, state_dir: Path, end_sessions: bool = False) -> NodeApp:
    """The ASGI application of one node; its lifespan starts and stops the node.

    Args:
        config: of the node.
        state_dir: directory for its database and sessions.
        end_sessions: whether sessions end with it.
    """
    return NodeApp(Node(config, state_dir, end_sessions))


class NodeApp(BrokerApp):
    """An ASGI application around a :class:`Node`.

    Attributes:
        node: the node.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        document = load_document("execution-broker.yaml")
        super().__init__("node", node, Api(node), document, node.config.limits)
        self.signed = node.signed
