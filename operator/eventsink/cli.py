"""The `eventsink` command."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file with the settings; EVENTSINK_<PART>__<FIELD> in the environment stands over it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("eventsink"), prog_name="eventsink")
def main() -> None:
    """Deliver each tenant's alerts to its own Slack channels and webhooks."""


@main.command()
@CONFIG
def operator(config: Path | None) -> None:
    """Validate EventSinks and compile them for the router."""
    from eventsink.controller import service

    sys.exit(service.main(config))


@main.command()
@CONFIG
def router(config: Path | None) -> None:
    """Take alerts and deliver them to the compiled sinks."""
    from eventsink.router import service

    sys.exit(service.main(config))
