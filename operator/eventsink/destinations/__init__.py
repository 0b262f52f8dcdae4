"""Destination types: one package each, and what they have in common."""
