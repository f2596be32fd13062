"""Tests of what our servers share of HTTP."""
