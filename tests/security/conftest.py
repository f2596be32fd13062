"""Hostile steps on real nodes: the fixtures of the node's own tests."""

from __future__ import annotations

from tests.node.conftest import node, start_node

__all__ = ["node", "start_node"]
