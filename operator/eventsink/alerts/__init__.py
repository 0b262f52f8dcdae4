"""Alerts: the one form that every source is turned into, and one module per source format."""
