"""HTTP headers of our own, in words both ends of a connection share."""

DIALECT = "WES-Bridge-Dialect"
"""Of a request for offers: in which dialect it is written, ``native`` or ``reference``. An aggregator passes
it on only to brokers that it knows to speak that one. Where the header is not there it is for all."""

EXECUTABLE = "WES-Bridge-Executable"
"""Of a file that is downloaded, and of a part of a form that is a file to upload: ``true`` when its owner may
execute it. HTTP has no word for permissions; servers and clients that do not know the header pass over it, as
RFC 7578 (section 4.8) tells them to."""
