"""Sinks: what the operator hands to the router, and how a message reaches its destination."""
