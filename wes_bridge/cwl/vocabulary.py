"""What the other rooms may name of cwltool and its relatives: errors to catch, and ways to look at an object.

Nothing else of the three packages leaves this room by its own name. To import this module is to import
cwltool.
"""

from __future__ import annotations

from cwltool.errors import UnsupportedRequirement, WorkflowException
from cwltool.process import Process, shortname
from cwltool.utils import visit_files_directories
from schema_salad.exceptions import ValidationException

__all__ = [
    "Process",
    "UnsupportedRequirement",
    "ValidationException",
    "WorkflowException",
    "shortname",
    "visit_files_directories",
]
