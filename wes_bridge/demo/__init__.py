"""The demonstration: nodes and a service as processes, one workflow, several policies, a node that fails.

It is a client like any other: it starts ``wes-bridge`` commands, talks WES and ExecutionBroker over HTTP, and
draws what it is told. It must not know the engine, the federation or how a node works inside.
"""
