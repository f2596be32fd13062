"""An ExecutionBroker node: offers, session life cycle, platforms and staging.

It knows ``model`` and its own plug-ins, nothing of WES or CWL: a site can run it alone.
"""
