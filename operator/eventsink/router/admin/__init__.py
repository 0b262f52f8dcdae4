"""The router's admin API and its client."""
