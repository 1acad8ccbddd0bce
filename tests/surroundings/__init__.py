"""Tests of what jobs run in: context that travels, context managers, dependencies."""
