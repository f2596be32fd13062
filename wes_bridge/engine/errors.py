"""What can be wrong with a run, as exceptions."""

from __future__ import annotations


class InvalidWorkflowError(Exception):
    """The document or its inputs are not valid CWL; the text is the validator's, with file and line."""
