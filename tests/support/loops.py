"""The event loops on which what sends must work: asyncio's own, and uvloop, on which the router runs."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import uvloop

LOOPS: Mapping[str, Callable[[], AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
ASYNCIO: Mapping[str, Callable[[], AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
UVLOOP: Mapping[str, Callable[[], AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
