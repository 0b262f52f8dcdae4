"""How a webhook's owner has the router authenticate: the header Authorization, made from Secrets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eventsink.destinations.webhook.urls import MAX_URL_LENGTH, url_rules
from eventsink.resources.model import SecretKeyRef, SpecModel
from eventsink.resources.rule import Rule, cel_list, exactly_one, form
from eventsink.resources.rules import UNIQUE_ENTRIES

MAX_NAME = 256
"""Characters of a user name or a client's id."""
NAME_PATTERN = r"^[ -~]+$"
USER_PATTERN = r"^[ -9;-~]+$"
"""RFC 7617 section 2: the first colon separates user and password."""
SCOPE_PATTERN = r"^[!#-\[\]-~]+$"
"""RFC 6749 section 3.3."""
PARAMETER_VALUE_PATTERN = r"^[ -~]*$"
OWN_PARAMETERS = ("client_assertion", "client_assertion_type", "client_id", "client_secret", "grant_type", "scope")

ONE_AUTH = exactly_one(("basic", "bearer", "oauth2"), "set exactly one of basic, bearer and oauth2")
ONE_USERNAME = Rule(
    message="set exactly one of username and usernameSecretRef",
    cel="has(self.username) != has(self.usernameSecretRef)",
    holds=lambda basic: (basic.username is None) != (basic.username_secret_ref is None),
)
USERNAME = form(USER_PATTERN, "a user name consists of ASCII characters, without control characters and colons")
ONE_CLIENT_ID = Rule(
    message="set exactly one of clientId and clientIdSecretRef",
    cel="has(self.clientId) != has(self.clientIdSecretRef)",
    holds=lambda oauth2: (oauth2.client_id is None) != (oauth2.client_id_secret_ref is None),
)
CLIENT_ID = form(NAME_PATTERN, "a client id consists of ASCII characters, without control characters")
TOKEN_URL = url_rules(
    "tokenUrl",
    no_userinfo="remove user and password from the URL; name the client in clientId and its secret in clientSecretRef",
)
SCOPE = form(SCOPE_PATTERN, "write one scope in each entry, of ASCII characters without spaces, quotation marks and backslashes")
PARAMETER_NAME = form(
    r"^[-._~0-9A-Za-z]+$", "the name of a parameter consists of letters, digits, -, ., _ and ~, such as audience"
)
PARAMETER_VALUE = form(
    PARAMETER_VALUE_PATTERN, "the value of a parameter consists of ASCII characters, without control characters"
)
PARAMETER_NOT_OURS = Rule(
    message="remove this parameter: client, secret, scopes and grant type are sent from the other fields of oauth2",
    cel=f"!(self.name in {cel_list(OWN_PARAMETERS)})",
    holds=lambda parameter: parameter.name not in OWN_PARAMETERS,
    field="name",
    reason="FieldValueForbidden",
)
UNIQUE_PARAMETERS = Rule(
    message="duplicate parameter, remove one",
    holds=lambda parameters: len({one.name for one in parameters}) == len(parameters),
)


class BasicAuth(SpecModel):
    """User name and password (RFC 7617)."""

    RULES = (ONE_USERNAME,)

    username: Annotated[str, Field(max_length=MAX_NAME), USERNAME] | None = Field(
        default=None, description="The user name, for everybody to read."
    )
    username_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where to read the user name, instead of username."
    )
    password_secret_ref: SecretKeyRef = Field(description="Where to read the password.")


class BearerAuth(SpecModel):
    """A token that does not change by itself (RFC 6750)."""

    token_secret_ref: SecretKeyRef = Field(description="Where to read the token.")


class EndpointParam(SpecModel):
    """A parameter of the request for a token."""

    RULES = (PARAMETER_NOT_OURS,)

    name: Annotated[str, Field(max_length=64), PARAMETER_NAME] = Field(description="Name, such as audience or resource.")
    value: Annotated[str, Field(max_length=1024), PARAMETER_VALUE] = Field(description="Value, for everybody to read.")


class OAuth2(SpecModel):
    """Tokens of an authorization server, for a client (RFC 6749 section 4.4, client credentials)."""

    RULES = (ONE_CLIENT_ID, *TOKEN_URL)

    token_url: Annotated[str, Field(max_length=MAX_URL_LENGTH)] = Field(
        repr=False, description="Where the router asks for tokens; http or https."
    )
    client_id: Annotated[str, Field(max_length=MAX_NAME), CLIENT_ID] | None = Field(
        default=None, description="The client, for everybody to read."
    )
    client_id_secret_ref: SecretKeyRef | None = Field(default=None, description="Where to read the client, instead of clientId.")
    client_secret_ref: SecretKeyRef = Field(description="Where to read the client's secret.")
    scopes: (
        Annotated[
            list[Annotated[str, Field(max_length=256), SCOPE]],
            Field(min_length=1, max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"}),
            UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(default=None, description="What the token is to be good for. Default: as the authorization server says.")
    endpoint_params: (
        Annotated[
            list[EndpointParam],
            Field(
                min_length=1,
                max_length=16,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
            UNIQUE_PARAMETERS,
        ]
        | None
    ) = Field(default=None, description="More parameters of the request for a token, such as audience.")


class Auth(SpecModel):
    """How the router authenticates; exactly one of the fields."""

    RULES = (ONE_AUTH,)

    basic: BasicAuth | None = Field(default=None, description="User name and password.")
    bearer: BearerAuth | None = Field(default=None, description="A token from a Secret.")
    oauth2: OAuth2 | None = Field(default=None, description="Tokens of an authorization server (client credentials).")
