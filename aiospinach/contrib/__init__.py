"""Integrations with frameworks: each imports the public package only."""
