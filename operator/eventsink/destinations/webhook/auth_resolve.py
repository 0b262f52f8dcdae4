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
_ONE_LINE = Pattern(r"^[^\x00-\x1f\x7f]*$")
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
        sentence = "a client id is one line of ASCII characters"
        client = _secret(read, "oauth2.clientIdSecretRef", oauth2.client_id_secret_ref, _NAME, sentence)
    sentence = "a client's secret is one line without control characters"
    return OAuth2Client(
        token_url=oauth2.token_url,
        client_id=client,
        client_secret=_secret(read, "oauth2.clientSecretRef", oauth2.client_secret_ref, _ONE_LINE, sentence),
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
        sentence = "a user name is one line of ASCII characters without colons"
        user = _secret(read, "basic.usernameSecretRef", basic.username_secret_ref, _USER, sentence)
    sentence = "a password is one line without control characters"
    password = _secret(read, "basic.passwordSecretRef", basic.password_secret_ref, _ONE_LINE, sentence)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _secret(read: ReadText, field: str, ref: SecretKeyRef, form: Pattern, sentence: str) -> str:
    """What a reference means; Problem with the sentence if it is of another form."""
    path = f"{PATH}.{field}"
    text = read(path, ref)
    if not form.search(text):
        raise Problem("InvalidSecretValue", path, sentence)
    return text
