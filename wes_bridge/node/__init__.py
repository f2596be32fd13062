"""An ExecutionBroker node: offers, session life cycle, platforms and staging. Knows model and its own plug-ins, nothing of WES or CWL."""
