"""The nodes of tests/node, for what hostile requests do to them."""

from tests.node.conftest import start_node

__all__ = ["start_node"]
