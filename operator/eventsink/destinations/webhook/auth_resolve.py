"""Makes of a webhook's auth what the router sends: a header Authorization, or a client that gets tokens for it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

from eventsink.destinations.problem import Problem
from eventsink.destinations.webhook.auth_spec import NAME_PATTERN, USER_PATTERN, Auth, BasicAuth, OAuth2
from eventsink.destinations.webhook.target import Header, OAuth2Client
from eventsink.resources.model import SecretKeyRef, references
from eventsink.runtime.patterns import Pattern

ReadText = Callable[[str, SecretKeyRef], str]
"""Path of the reference, reference -> the text that it means."""
PATH = "spec.webhook.auth"
TOKEN_URL_PATH = f"{PATH}.oauth2.tokenUrl"
_USER, _NAME = Pattern(USER_PATTERN), Pattern(NAME_PATTERN)
_TOKEN = Pattern(r"^[!-~]+$")
"""RFC 6750 section 2.1 allows less; what else there is can be sent, too."""


def authorization(auth: Auth, read: ReadText) -> Header | None:
    """The header of a webhook that authenticates by itself; None: it needs tokens.

    Raises
    ------
    Problem
        A credential cannot be used.
    """
    if auth.basic is not None:
        return Header(name="Authorization", value=_basic(auth.basic, read))
    if auth.bearer is None:
        return None
    path = f"{PATH}.bearer.tokenSecretRef"
    token = read(path, auth.bearer.token_secret_ref).strip()
    if not _TOKEN.search(token):
        raise Problem(
            "InvalidSecretValue",
            path,
            "a token is one line of ASCII characters without spaces; store the token alone, without Bearer",
        )
    return Header(name="Authorization", value=f"Bearer {token}")


def oauth2_client(oauth2: OAuth2, read: ReadText) -> OAuth2Client:
    """What gets tokens.

    Raises
    ------
    Problem
        A credential cannot be used.
    """
    client = oauth2.client_id or ""
    if oauth2.client_id_secret_ref is not None:
        path = f"{PATH}.oauth2.clientIdSecretRef"
        client = read(path, oauth2.client_id_secret_ref)
        if not _NAME.search(client):
            raise Problem("InvalidSecretValue", path, "a client id is one line of ASCII characters")
    path = f"{PATH}.oauth2.clientSecretRef"
    secret = read(path, oauth2.client_secret_ref)
    if not _is_one_line(secret):
        raise Problem("InvalidSecretValue", path, "a client's secret is one line without control characters")
    return OAuth2Client(
        token_url=oauth2.token_url,
        client_id=client,
        client_secret=secret,
        scopes=tuple(oauth2.scopes or ()),
        endpoint_params=tuple((one.name, one.value) for one in oauth2.endpoint_params or ()),
    )


def credentials(auth: Auth | None) -> Iterator[tuple[str, SecretKeyRef]]:
    """Path and reference of all that reaches the receiver, itself or as a token that was made with it."""
    if auth is not None:
        for one in references(auth, PATH):
            yield one.path, one.ref


def _basic(basic: BasicAuth, read: ReadText) -> str:
    user = basic.username or ""
    if basic.username_secret_ref is not None:
        path = f"{PATH}.basic.usernameSecretRef"
        user = read(path, basic.username_secret_ref)
        if not _USER.search(user):
            raise Problem("InvalidSecretValue", path, "a user name is one line of ASCII characters without colons")
    path = f"{PATH}.basic.passwordSecretRef"
    password = read(path, basic.password_secret_ref)
    if not _is_one_line(password):
        raise Problem("InvalidSecretValue", path, "a password is one line without control characters")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _is_one_line(text: str) -> bool:
    return not any(ord(character) < 0x20 or ord(character) == 0x7F for character in text)
