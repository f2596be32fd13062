"""The exit codes of our commands, as ``wes-bridge --help`` tells them. Light: the runner must start fast."""

SUCCESS, FAILURE, USAGE, UNSUPPORTED, INTERRUPTED = 0, 1, 2, 33, 130
"""USAGE: also a wrong configuration. UNSUPPORTED: as cwltool's, and the CWL conformance tests'."""

_VERSION_REFUSED = "workflow_type_version "
"""How a service's words begin that does not run a version of CWL."""


def code_of_refusal(said: str) -> int:
    """The exit code for what a service said that refused a request."""
    return UNSUPPORTED if said.startswith(_VERSION_REFUSED) else FAILURE
