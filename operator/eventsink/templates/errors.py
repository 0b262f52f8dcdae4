"""What can be wrong with a template."""

from __future__ import annotations


def position(source: str, index: int) -> str:
    """Line and column of a place in a template, counted from 1."""
    return f"line {source.count(chr(10), 0, index) + 1}, column {index - source.rfind(chr(10), 0, index)}"


class InvalidTemplate(ValueError):
    """The template cannot be used. Its text says where, and what to write; it is shown to whoever wrote the template."""


class TemplateFailed(Exception):
    """The template could not be evaluated for what it was given. Its text says where and why, and holds nothing of any alert."""
