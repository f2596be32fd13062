"""What must be uploaded with a local CWL workflow, found without cwltool.

:func:`make_bundle` reads the workflow's documents and the input object (only YAML is needed for that),
follows every reference to a local file, and lays the files out so that relative references still hold.
It must not know HTTP servers or run anything.
"""

from wes_bridge.bundle.build import Attachment, Bundle, make_bundle, plain_bundle
from wes_bridge.bundle.errors import BundleError, OutsideError
from wes_bridge.bundle.inputs import Input, declared_inputs, read_inputs

__all__ = [
    "Attachment",
    "Bundle",
    "BundleError",
    "Input",
    "OutsideError",
    "declared_inputs",
    "make_bundle",
    "plain_bundle",
    "read_inputs",
]
