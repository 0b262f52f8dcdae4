"""The proxy of the network, through which outgoing connections are tunnelled (HTTP CONNECT)."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from eventsink.runtime.changing_file import ChangingFile
from eventsink.runtime.patterns import Wildcards
from eventsink.runtime.settings import ConfigurationError, Settings, read_secret_file
from eventsink.sinks.hosts import canonical_host

_FORM = "write it as http://proxy.example.com:3128"
_MAX_URL = 2048


class ProxySettings(Settings):
    """The HTTP proxy through which the process connects, by CONNECT. Variables such as HTTPS_PROXY have no effect."""

    url: str = Field(default="", max_length=_MAX_URL)
    """Such as http://proxy.example.com:3128. Empty: no proxy."""
    url_file: Path | None = None
    """File with the URL instead, where it holds credentials: http://user:password@proxy.example.com:3128. Read again when it changes."""
    no_proxy: tuple[str, ...] = ()
    """Hosts that are reached without it: names, with * for any characters (*.svc.cluster.local), and for URLs with an address, networks."""

    judge_names: bool = True
    """Whether names are looked up here too before the proxy is asked, and refused where they lead to an address that may not be dialled. A
    name that is not found here within a second is left to the proxy."""

    @field_validator("url")
    @classmethod
    def _has_no_credentials(cls, url: str) -> str:
        if url and parse_proxy(url).authorization:
            raise ValueError("a URL with a password belongs into a file: name it in urlFile")
        return url

    @model_validator(mode="after")
    def _is_given_once(self) -> ProxySettings:
        if self.url and self.url_file is not None:
            raise ValueError("write url or urlFile, not both")
        return self


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where the proxy is, and what it is told about who asks."""

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def authorization(self) -> str:
        """Value of the header Proxy-Authorization; empty: none."""
        if not self.user and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def parse_proxy(url: str) -> ProxyAddress:
    """Take the URL of a proxy apart.

    Raises
    ------
    ValueError
        It is not one; the text does not repeat it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"the URL of the proxy cannot be read: {_FORM}") from None
    if parts.scheme != "http":
        raise ValueError(f"the URL of the proxy must begin with http://, for the proxy itself is reached without TLS: {_FORM}")
    if not host or not port or parts.path not in ("", "/") or parts.query or parts.fragment or not host.isascii():
        raise ValueError(f"the URL of the proxy names a host and a port, and nothing behind them: {_FORM}")
    try:
        host = canonical_host(host)
    except ValueError as error:
        raise ValueError(f"the URL of the proxy cannot be used: {error}") from None
    return ProxyAddress(host, port, unquote(parts.username or ""), unquote(parts.password or ""))


class Proxy:
    """Says which hosts are reached through the proxy, and where it is now.

    Parameters
    ----------
    address
        Returns where it is.
    no_proxy, judge_names
        As the settings.
    """

    def __init__(self, address: Callable[[], ProxyAddress], no_proxy: tuple[str, ...] = (), *, judge_names: bool = True) -> None:
        self.address = address
        self.judge_names = judge_names
        networks = [one for entry in no_proxy if (one := _network(entry)) is not None]
        self._networks = networks
        self._names = Wildcards(entry.lower().rstrip(".") for entry in no_proxy if _network(entry) is None)

    def covers(self, host: str) -> bool:
        """Whether a host, as a URL names it, is reached through the proxy."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return not self._names.match(host.lower().rstrip("."))
        return not any(address.version == network.version and address in network for network in self._networks)


def open_proxy(settings: ProxySettings, setting: str) -> Proxy | None:
    """The proxy that the settings name; None: there is none.

    Parameters
    ----------
    setting
        Their name, for errors.

    Raises
    ------
    ConfigurationError
        The file with the URL cannot be used.
    """
    if settings.url_file is not None:
        file = ChangingFile(f"{setting}.urlFile", settings.url_file, _read_url)
        return Proxy(file.current, settings.no_proxy, judge_names=settings.judge_names)
    if settings.url:
        address = parse_proxy(settings.url)
        return Proxy(lambda: address, settings.no_proxy, judge_names=settings.judge_names)
    return None


def _read_url(path: Path) -> ProxyAddress:
    try:
        return parse_proxy(read_secret_file(path).strip())
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
