"""The options of `eventsink sinks` for a webhook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from eventsink.destinations.arguments import choices
from eventsink.destinations.options import SECRET_FILE, Argument, DestinationOptions
from eventsink.destinations.webhook.spec import WebhookSpec


class HeaderFile(click.ParamType):  # type: ignore[type-arg]  # generic in some versions
    """A header whose value is in a file."""

    name = "NAME=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The header as in a request."""
        name, separator, file = str(value).partition("=")
        if not (name and separator and file):
            raise click.UsageError("--header-file: write NAME=FILE", ctx)
        return {"name": name, "value": SECRET_FILE.convert(file, param, ctx)}


class AuthFile(click.ParamType):  # type: ignore[type-arg]
    """The argument `auth`, with its credentials, in a file."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The argument as in a request."""
        try:
            return json.loads(SECRET_FILE.convert(value, param, ctx))
        except (ValueError, RecursionError):
            raise click.UsageError(f"{param.opts[0] if param else 'file'}: the file holds no JSON", ctx) from None


class TextFile(click.ParamType):  # type: ignore[type-arg]
    """A text that is in a file."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text."""
        try:
            return Path(value).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise click.UsageError(f"{param.opts[0] if param else 'file'}: the file cannot be read as text", ctx) from None


OPTIONS = DestinationOptions(
    (
        Argument("url", click.Option(["--webhook-url"], metavar="URL", help="Webhook: where to post.")),
        Argument(
            "secret_url",
            click.Option(["--webhook-url-file"], type=SECRET_FILE, help="Webhook: file with the URL, if that is a credential."),
        ),
        Argument(
            "format",
            click.Option(
                ["--format"], type=click.Choice(choices(WebhookSpec, "format")), help="Webhook: format of the messages."
            ),
        ),
        Argument("batch", click.Option(["--batch"], type=int, help="Webhook: most alerts in one message.")),
        Argument(
            "template",
            click.Option(["--template-file"], type=TextFile(), help="Webhook: file with a template of the body (Liquid)."),
        ),
        Argument(
            "content_type",
            click.Option(["--content-type"], metavar="TYPE", help="Webhook: of what the template writes, such as text/plain."),
        ),
        Argument(
            "method",
            click.Option(
                ["--method"], type=click.Choice(choices(WebhookSpec, "method")), help="Webhook: method of the requests."
            ),
        ),
        Argument("timeout", click.Option(["--timeout"], metavar="DURATION", help="Webhook: of one attempt, such as 10s.")),
        Argument(
            "headers",
            click.Option(
                ["--header-file"], type=HeaderFile(), multiple=True, help="Webhook: a header, value from a file. Repeatable."
            ),
        ),
        Argument(
            "signing_secret",
            click.Option(["--signing-secret-file"], type=SECRET_FILE, help="Webhook: file with a secret to sign messages with."),
        ),
        Argument(
            "generate_signing_secret",
            click.Option(
                ["--generate-signing-secret"],
                is_flag=True,
                default=None,
                help="Webhook: generate that secret; it is printed once.",
            ),
        ),
        Argument(
            "ca_certificate",
            click.Option(
                ["--webhook-ca-file"], type=SECRET_FILE, help="Webhook: PEM certificates to check the receiver's against."
            ),
        ),
        Argument(
            "client_certificate",
            click.Option(
                ["--client-certificate-file"], type=SECRET_FILE, help="Webhook: PEM certificate to present to the receiver."
            ),
        ),
        Argument(
            "client_key",
            click.Option(["--client-key-file"], type=SECRET_FILE, help="Webhook: PEM private key of that certificate."),
        ),
        Argument(
            "server_name",
            click.Option(
                ["--server-name"], metavar="NAME", help="Webhook: name in the receiver's certificate, if not the URL's host."
            ),
        ),
        Argument(
            "auth",
            click.Option(
                ["--auth-file"],
                type=AuthFile(),
                help="Webhook: JSON file with one of basic, bearer and oauth2, as in the page about the REST API.",
            ),
        ),
    ),
    summary=("url",),
)
