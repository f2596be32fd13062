"""Asking for what somebody else named: one reading of URLs, one check of addresses, one client for threads.

Workflows, jobs, brokers and receivers of webhooks are not trusted, and neither are the servers that their
URLs lead to. All that this room does is about that: which hosts may be contacted, that the address that was
checked is the one that is connected to, and how long, how slow and how large an answer may be. It knows
nothing of what is fetched, nor of the configuration (its callers make ``Limits`` and ``Guard`` from that).
"""
