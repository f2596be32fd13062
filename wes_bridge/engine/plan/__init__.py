"""Knowing before running: a workflow expanded as far as it is known, each step priced by the nodes.

Nothing is accepted here. It must not know HTTP servers or tables; runs share no state with it.
"""
