"""`python -m eventsink` is the `eventsink` command."""

from eventsink.cli import main

main()
