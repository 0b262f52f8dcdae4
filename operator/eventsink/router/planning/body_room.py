"""Which bodies of alerts are kept that no delivery has: as many as the queue has room for."""

from __future__ import annotations

from eventsink.router.queue.states import AlertStateStore
from eventsink.runtime.logs import Repeated, get_logger


class LeftOut:
    """Counts what was not kept since the start, since the queue has no room for it, and logs it once a minute."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._log = Repeated(60.0)
        self.count = 0

    def add(self) -> bool:
        """Count one more; returns False: it is not kept."""
        self.count += 1
        more = self._log.due()
        if more is not None:
            get_logger().warning(self._text, more=more)
        return False


class BodyRoom:
    """Decides, and counts what is left out."""

    def __init__(self, store: AlertStateStore) -> None:
        self._store = store
        self.bodies_left_out = LeftOut(
            "bodies of firing alerts are not kept, since the queue is half full (queue.maxBytes): sinks that are new, resumed or changed "
            "are notified of these alerts when their source repeats them"
        )
        self.ends_left_out = LeftOut(
            "ends of alerts are not kept for suspended sinks, since the queue is too full (queue.maxBytes): a sink that is resumed is "
            "notified of such an end with what was known of the firing alert, and not at all if that was not kept either"
        )
        self.ends_lost = LeftOut(
            "alerts that are not sent any more have ended, and sinks that were notified of them are not notified of the end: the queue was too "
            "full to keep what they are (queue.maxBytes)"
        )
        self.not_held = LeftOut(
            "possible late duplicates are delivered at once, since the queue is too full to hold them (queue.maxBytes)"
        )

    def keeps_body(self) -> bool:
        """Whether there is room for the body of one more firing alert; it is counted if not."""
        return self._store.has_room_for_bodies() or self.bodies_left_out.add()

    def keeps_body_for_end(self) -> bool:
        """Whether there is room for the body of one more firing alert that may end without its source; it is counted if not."""
        return self.has_needed_room() or self.bodies_left_out.add()

    def keeps_end(self) -> bool:
        """Whether there is room for the body of one more end that a suspended sink has yet to be notified of; it is counted if not."""
        return self.has_needed_room() or self.ends_left_out.add()

    def may_hold(self) -> bool:
        """Whether there is room to hold one more possible late duplicate; it is counted if not."""
        return self.has_needed_room() or self.not_held.add()

    def has_needed_room(self) -> bool:
        """Whether there is room for bodies that nobody sends again."""
        return self._store.has_room_for_bodies(needed=True)
