"""One CWL run: load and check, walk the graph, plan a step, collect outputs.

It knows nothing of HTTP servers.
"""
