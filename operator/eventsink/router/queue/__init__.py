"""The durable queue: its protocol, and one package for each engine."""
