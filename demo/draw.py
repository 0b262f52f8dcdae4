"""Prints the steps of the demo, and Slack messages as a person would see them."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from eventsink.destinations.slack.terminal import terminal_lines

WIDTH = 96
_COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def paint(text: str, *styles: str) -> str:
    """The text in colour, if standard output is a terminal."""
    return "".join(f"\033[{_CODES[style]}m" for style in styles) + text + "\033[0m" if _COLOUR else text


def say(text: str = "") -> None:
    """One line of output."""
    print(text, flush=True)


def step(number: int, title: str) -> None:
    """The heading of a step."""
    say()
    say(paint(f"{number}. {title}", "bold", "cyan"))


def check(text: str, *, passed: bool = True) -> None:
    """A statement that was checked, and whether it is true."""
    say(f"   {paint('✓', 'green') if passed else paint('✗', 'red')} {text}")


def aside(text: str, style: str = "dim") -> None:
    """An explanation, in as many lines as it needs."""
    for line in textwrap.wrap(text, WIDTH - 3):
        say(paint(f"   {line}", style))


def message(body: Mapping[str, Any], channel: str) -> None:
    """A Slack message, as `eventsink preview` shows it."""
    say(f"   {paint('┌', 'dim')} {paint(f'#{channel}', 'bold')} {paint('· Slack', 'dim')}")
    for line in terminal_lines(body, width=WIDTH - 5, urls=False):
        say(f"   {paint('│', 'dim')} {line if _COLOUR else click.unstyle(line)}")
    say(f"   {paint('└', 'dim')}")
