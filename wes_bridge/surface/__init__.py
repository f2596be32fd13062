"""The HTTP surface of an ExecutionBroker, whoever answers behind it: a node, or an aggregator of brokers.

It knows our OpenAPI document, bodies, headers and processes; it must not know sessions, offers or storage.
"""
