"""Sources: who sends alerts, how what they send is read, and whose alerts they are.

A `Source` is all that planning needs, and assumes no HTTP: its name, its format and the rule for its tenants. A `PostingSource` is one that
posts to the intake, and has tokens. A source that pulls (a watch) would be another subclass of `Source` with settings of its own, derived from
`SourceSettings`: it gives what it reads to `Acceptor.accept`, as the intake does with what was posted, and needs neither tokens nor a path.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, field_validator, model_validator

from eventsink.alerts.audit_rules import AuditSettings
from eventsink.alerts.formats import audit, json
from eventsink.alerts.formats.format import Format
from eventsink.alerts.formats.registry import FORMATS
from eventsink.alerts.json_mapping import JsonMapping
from eventsink.resources.rules import TENANT_PATTERN
from eventsink.runtime.logs import get_logger
from eventsink.runtime.settings import ConfigurationError, Settings, read_secret_file

TOKEN_REREAD_SECONDS = 5.0
"""Token files are read again after this, so that a rotated Secret takes effect without a restart."""
_EMPTY = hashlib.sha256(b"").digest()
"""Of no token; compared with where no source has that name, so that both take the same time."""

SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
TenantName = Annotated[str, StringConstraints(pattern=TENANT_PATTERN, max_length=63)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ClusterName = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.:/]*[A-Za-z0-9])?)?$", max_length=128)]
"""Also the name that a provider gives it, such as an ARN; empty: it has none."""
TokenHash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class NamespaceOwner(Settings):
    """The tenant that owns the namespace an alert is about."""

    label: LabelName = "namespace"
    """Label of the alert that names the namespace."""


class TenantRule(Settings):
    """How the tenant of an alert is determined; exactly one of the three."""

    fixed: TenantName | None = None
    """All alerts of the source are this tenant's."""
    namespace_owner: NamespaceOwner | None = None
    """The owner of the alert's namespace (label eventsink.dev/tenant of the Namespace)."""
    label: LabelName | None = None
    """Name of the alert's label that holds the tenant. Only for sources whose labels tenants cannot choose."""

    @model_validator(mode="after")
    def _exactly_one(self) -> TenantRule:
        if sum(rule is not None for rule in (self.fixed, self.namespace_owner, self.label)) != 1:
            raise ValueError("set exactly one of fixed, namespaceOwner and label")
        return self


class SourceSettings(Settings):
    """One source of alerts, whatever way they come."""

    name: SourceName
    """Name of the source; part of the path that it posts to: /v1/alerts/<name>."""
    format: str = "alertmanager"
    """What it sends: see the formats in sources.md."""
    tenant: TenantRule
    """Whose alerts they are."""
    allowed_tenants: tuple[TenantName, ...] | None = None
    """Tenants that the source may name; absent: all."""
    default_tenant: TenantName | None = None
    """The tenant of alerts whose tenant cannot be determined; absent: they are rejected and counted."""
    drop_labels: tuple[LabelName, ...] = ()
    """Labels in which the duplicates of an alert differ that a highly available pair sends, such as replica."""
    audit: AuditSettings | None = None
    """Of the format audit: which requests are alerts; absent: those that the default rules select."""
    mapping: JsonMapping | None = None
    """Of the format json: which part of what is sent is which member of an alert; absent: item.name is the name, and so on."""

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"no source format has this name; known formats: {', '.join(sorted(FORMATS))}")
        return name

    @model_validator(mode="after")
    def _has_only_settings_of_its_format(self) -> SourceSettings:
        if self.audit is not None and self.format != audit.FORMAT.name:
            raise ValueError(f"audit is for the format {audit.FORMAT.name} only: remove it, or correct format")
        if self.mapping is not None and self.format != json.FORMAT.name:
            raise ValueError(f"mapping is for the format {json.FORMAT.name} only: remove it, or correct format")
        return self

    @model_validator(mode="after")
    def _may_name_its_tenant(self) -> SourceSettings:
        fixed = self.tenant.fixed
        if fixed is not None and self.allowed_tenants is not None and fixed not in self.allowed_tenants:
            raise ValueError("tenant.fixed is not among allowedTenants: every alert would be rejected")
        return self


class PostingSourceSettings(SourceSettings):
    """One source that posts alerts to the intake."""

    token_files: tuple[Path, ...] = ()
    """Files with one bearer token each; two while one replaces the other."""
    token_hashes: tuple[TokenHash, ...] = ()
    """Tokens as sha256:<hex>, for configuration without secrets."""
    path_token: bool = False
    """Whether the token may be in the path (/v1/alerts/<name>/<token>), for senders that cannot set a header."""

    @model_validator(mode="after")
    def _has_a_token(self) -> PostingSourceSettings:
        if not self.token_files and not self.token_hashes:
            raise ValueError(f"the source {self.name} needs tokenFiles or tokenHashes")
        if f"sha256:{_EMPTY.hex()}" in self.token_hashes:
            raise ValueError("tokenHashes holds the hash of no text at all, with which nobody would need a token")
        return self


class Source:
    """A source at work: its name, its format, and whose alerts it may send."""

    def __init__(self, settings: SourceSettings, cluster: str = "") -> None:
        self.settings = settings
        self.cluster = cluster
        """The router's name for its cluster; empty: it has none."""
        self.name = settings.name
        self.format = format_of(settings)
        self.dropped_labels = frozenset(settings.drop_labels)


def format_of(settings: SourceSettings) -> Format:
    """How the notifications of a source are read: its format, with what its settings say about it."""
    if settings.mapping is not None:
        return json.mapped_by(settings.mapping)
    return FORMATS[settings.format] if settings.audit is None else audit.selecting(settings.audit)


class PostingSource(Source):
    """A source that posts to the intake, with its tokens as they are in the files now."""

    def __init__(
        self, settings: PostingSourceSettings, *, cluster: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(settings, cluster)
        self.path_token = settings.path_token
        self._clock = clock
        self._fixed = [bytes.fromhex(text.removeprefix("sha256:")) for text in settings.token_hashes]
        self._by_file = {path: _hash(read_secret_file(path)) for path in settings.token_files}
        self._unreadable: set[Path] = set()
        self._hashes = [*self._fixed, *self._by_file.values()]
        self._read_at = clock()

    def knows(self, token: str) -> bool:
        """Whether this is one of its tokens; takes the same time whichever it is."""
        digest = _hash(token)
        return bool(sum([hmac.compare_digest(digest, known) for known in self.tokens()]))

    def tokens(self) -> Sequence[bytes]:
        """Hashes of its tokens; the same object while nothing was read again."""
        if self._by_file and self._clock() - self._read_at > TOKEN_REREAD_SECONDS:
            self._reread()
        return self._hashes

    def _reread(self) -> None:
        self._read_at = self._clock()
        for path in self._by_file:
            try:
                self._by_file[path] = _hash(read_secret_file(path))
            except ConfigurationError as error:
                # A file that is being replaced must not lock its sender out, nor keep the token of another file from being revoked.
                if path not in self._unreadable:
                    self._unreadable.add(path)
                    get_logger().warning(
                        "a token file cannot be read; its last token stays valid until another one is written there",
                        source=self.name,
                        reason=str(error),
                    )
            else:
                self._unreadable.discard(path)
        self._hashes = [*self._fixed, *self._by_file.values()]


def open_sources(settings: tuple[PostingSourceSettings, ...], cluster: str = "") -> dict[str, PostingSource]:
    """The sources by name, of a router with this name for its cluster.

    Raises
    ------
    ConfigurationError
        Two have one name, or a token file cannot be read.
    """
    sources: dict[str, PostingSource] = {}
    for one in settings:
        if one.name in sources:
            raise ConfigurationError(f"sources: two have the name {one.name}; names are unique")
        sources[one.name] = PostingSource(one, cluster=cluster)
    return sources


def authenticate(sources: Mapping[str, PostingSource], name: str, token: str) -> PostingSource | None:
    """The source of that name if the token is its; an unknown name takes the same time as a wrong token."""
    source = sources.get(name)
    if source is None:
        hmac.compare_digest(_hash(token), _EMPTY)
        return None
    return source if source.knows(token) else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
