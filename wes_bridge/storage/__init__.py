"""Bytes in stores: how a store is reached, what its answers mean. It knows no runs, nodes or sessions."""
