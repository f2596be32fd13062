"""ExecutionBroker clients: ask many nodes, choose an offer, follow a session. Knows nothing of CWL."""
