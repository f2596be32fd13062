"""The WES 1.1.0 server: connexion application, handlers, uploads, paging, downloads.

It knows ``model``, ``store`` and ``data``; it never imports cwltool.
"""
