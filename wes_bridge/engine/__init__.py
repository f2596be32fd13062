"""One CWL run: load and check, walk the graph, plan a step, collect outputs. Knows nothing of HTTP servers."""
