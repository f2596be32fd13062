"""The shared vocabulary: ExecutionBroker and WES as data, phases and states, units. No I/O.

Everything may import this room; this room imports nothing of wes-bridge.
"""
