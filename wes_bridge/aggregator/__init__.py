"""An ExecutionBroker whose nodes are other ExecutionBrokers.

It knows ``model``, the client's connections in ``federation``, its tables in ``store`` and the HTTP surface
it shares with the node; it must not know WES, CWL, or how a node runs anything.
"""
