"""Expressions of the Common Expression Language (CEL) that other people write: read, explained and bounded in cost."""
