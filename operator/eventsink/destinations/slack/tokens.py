"""Tokens that OAuth codes were exchanged for: one Secret for each code, in the operator's own namespace. The Secret is the claim on the code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import ValidationError

from eventsink.kube.api import SECRETS, Api, Collection, Conflict, NotFound, Object, delete_if_same, list_all
from eventsink.kube.secrets import encoded, secret_data
from eventsink.resources.names import OPERATOR_LABELS, OPERATOR_MANAGER
from eventsink.sinks.target import SecretDocument

TOKEN_SECRET_TYPE = "eventsink.dev/slack-token"
TOKEN_SECRET_KEY = "token.json"


class TokenRecord(SecretDocument):
    """What is known of one code. Times are seconds since the epoch."""

    version: Literal[1] = 1
    namespace_uid: str
    """Of the namespace whose EventSink named the code first: a namespace that was re-created is another one."""
    tenant: str
    claimed_at: float
    """The code is exchanged after this was stored, and never again."""
    token: str = ""
    refresh_token: str = ""
    expires_at: float | None = None
    """None: the token does not expire."""
    error: str = ""
    """Why there is no token, or why it cannot be renewed: Slack's name of the error."""
    scopes: tuple[str, ...] = ()
    """What the token may do; empty: an older version did not record it."""
    team_id: str = ""
    """Of the workspace; empty: the app was installed in a whole organisation, or an older version did not record it."""
    team_name: str = ""
    webhook_url: str = ""
    """Of the incoming webhook that came with the token, where the app asks for one."""
    webhook_channel: str = ""
    """Its channel's name, without #."""
    webhook_channel_id: str = ""
    unused_since: float | None = None
    """When the last EventSink that needs it went."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A record, and the version of it that was read or written."""

    name: str
    record: TokenRecord
    version: str


class TokenStore(Protocol):
    """Where tokens are kept. All raise ApiError where storage cannot be asked."""

    async def create(self, name: str, record: TokenRecord) -> StoredToken | None:
        """Store a new record; None: there is one of that name."""
        ...

    async def read(self, name: str) -> StoredToken | None:
        """The record; None: there is none that can be read."""
        ...

    async def replace(self, stored: StoredToken, record: TokenRecord) -> StoredToken:
        """Store a record in place of one.

        Raises
        ------
        Conflict
            It was changed since it was read.
        """
        ...

    async def delete(self, stored: StoredToken) -> None:
        """Remove a record, unless it was changed since it was read."""
        ...

    async def list(self) -> list[StoredToken]:
        """All records."""
        ...


class SecretTokenStore:
    """A `TokenStore` of Secrets."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    async def create(self, name: str, record: TokenRecord) -> StoredToken | None:
        try:
            stored = await self._api.create(SECRETS, self._body(name, record), manager=OPERATOR_MANAGER)
        except Conflict:
            return None
        return StoredToken(name, record, stored["metadata"]["resourceVersion"])

    async def read(self, name: str) -> StoredToken | None:
        try:
            return _read(await self._api.get(SECRETS, (self.namespace, name)))
        except NotFound:
            return None

    async def replace(self, stored: StoredToken, record: TokenRecord) -> StoredToken:
        body = self._body(stored.name, record)
        body["metadata"]["resourceVersion"] = stored.version
        written = await self._api.replace(SECRETS, body, manager=OPERATOR_MANAGER)
        return StoredToken(stored.name, record, written["metadata"]["resourceVersion"])

    async def delete(self, stored: StoredToken) -> None:
        await delete_if_same(self._api, SECRETS, (self.namespace, stored.name), resource_version=stored.version)

    async def list(self) -> list[StoredToken]:
        found = await list_all(self._api, Collection(SECRETS, self.namespace, field_selector=f"type={TOKEN_SECRET_TYPE}"))
        return [one for secret in found if (one := _read(secret)) is not None]

    def _body(self, name: str, record: TokenRecord) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace, "labels": dict(OPERATOR_LABELS)},
            "type": TOKEN_SECRET_TYPE,
            "data": encoded({TOKEN_SECRET_KEY: record.to_json()}),
        }


def token_name(code: str) -> str:
    """Name of the record of a code: of its digest, so that it reveals nothing about the code."""
    return f"slack-{hashlib.sha256(code.encode()).hexdigest()[:40]}"


def _read(secret: Object) -> StoredToken | None:
    try:
        record = TokenRecord.model_validate_json(secret_data(secret)[TOKEN_SECRET_KEY])
    except (KeyError, ValueError, ValidationError):
        return None
    return StoredToken(secret["metadata"]["name"], record, secret["metadata"]["resourceVersion"])
