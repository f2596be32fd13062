"""From the URL of a workflow to a process that is ready to be walked: fetched, checked and built."""
