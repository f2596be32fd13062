"""The exit codes of our commands, as ``wes-bridge --help`` tells them. Light: the runner must start fast."""

SUCCESS, FAILURE, USAGE, UNSUPPORTED, INTERRUPTED = 0, 1, 2, 33, 130
"""USAGE: also a wrong configuration. UNSUPPORTED: as cwltool's, and the CWL conformance tests'."""
