"""Addresses that a process listens on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

MAX_PORT = 65535


def check_address(text: str) -> str:
    """`host:port` with a port from 0 (any free one) to 65535; an IPv6 host in brackets.

    Raises
    ------
    ValueError
        Another form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError("write an address as host:port, such as 127.0.0.1:8080")
    return text


Address = Annotated[str, AfterValidator(check_address)]


def split_address(address: str) -> tuple[str, int]:
    """(host without brackets, port) of an `Address`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
