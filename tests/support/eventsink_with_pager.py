"""The `eventsink` command with one more destination type: `python -m tests.support.eventsink_with_pager run DIR`."""

from __future__ import annotations

from eventsink.destinations import registry

if __name__ == "__main__":
    registry.register("pager", "tests.support.throwaway_destination")

    from eventsink.cli import main

    main()
