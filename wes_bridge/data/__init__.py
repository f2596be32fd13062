"""Where the service's files live: the workspace, its URLs, uploads and downloads."""
