"""Telling webhooks how runs go. Knows the store and HTTP, nothing of CWL, nodes or how runs are worked on."""
