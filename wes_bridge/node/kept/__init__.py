"""Outputs that stay at the node that made them: kept under a lease, with a manifest, until they are released.

``store`` has them and their leases, ``listing`` writes a manifest, ``index`` looks up in one, ``settling``
makes an output one that stands by itself, ``asking`` checks what a request asks for, ``serving`` answers
over HTTP. Nothing here knows of CWL, of WES or of how a command is run.
"""
