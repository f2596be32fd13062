"""HTTP headers of our own, in words both ends of a connection share."""

EXECUTABLE = "WES-Bridge-Executable"
"""Of a file that is downloaded, and of a part of a form that is a file to upload: ``true`` when its owner may
execute it. HTTP has no word for permissions; servers and clients that do not know the header pass over it, as
RFC 7578 (section 4.8) tells them to."""
