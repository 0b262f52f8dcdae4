"""A template that was read, and the cache of those: the only door to this package beside `context`.

The words of an error are the same wherever a template is read: at admission, in a status, by the REST API and by `eventsink validate`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventsink.templates.context import VARIABLES
from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.values import Value

if TYPE_CHECKING:
    from eventsink.templates.syntax import Run

MAX_TEMPLATE = 4000
"""Characters of one template."""
MAX_KEPT = 256
"""Templates that are kept as they were read ..."""
MAX_KEPT_CHARACTERS = 200_000
"""... and their characters, each of which takes about 100 bytes; the one that was not used for the longest time goes first."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template wrote."""

    text: str
    complete: bool
    """False: it wrote more than the limit, and the rest is missing."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be evaluated."""

    run: Run

    def render(
        self, variables: Mapping[str, Value], *, limit: int, show: Callable[[str], str] = str, lenient: bool = False
    ) -> Rendered:
        """What it writes. Pure: the same variables make the same text, and end in the same error.

        Parameters
        ----------
        variables
            `context_of` some alerts.
        limit
            Characters that it may write.
        show
            What is done to each text that an expression writes, before it is written: everything but the text of the template itself.
        lenient
            Whether a filter that cannot be computed for these values gives nothing, instead of `TemplateFailed`.

        Raises
        ------
        TemplateFailed
            It takes too many steps, or something in it cannot be computed.
        """
        from eventsink.templates.evaluation import Evaluation, OutputFull  # loaded with the first template

        state = Evaluation(variables, limit, show, lenient=lenient)
        try:
            self.run(state)
        except OutputFull:
            return Rendered(state.written(), complete=False)
        except RecursionError:
            raise TemplateFailed("it is nested too deeply") from None
        return Rendered(state.written(), complete=True)


class _Kept:
    """Templates by their source, bounded; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._templates: OrderedDict[str, Template] = OrderedDict()
        self._characters = 0

    def get(self, source: str) -> Template | None:
        with self._lock:
            if (found := self._templates.get(source)) is not None:
                self._templates.move_to_end(source)
            return found

    def put(self, source: str, template: Template) -> None:
        with self._lock:
            if source in self._templates:
                return
            self._templates[source] = template
            self._characters += len(source)
            while len(self._templates) > MAX_KEPT or self._characters > MAX_KEPT_CHARACTERS:
                self._characters -= len(self._templates.popitem(last=False)[0])

    def __len__(self) -> int:
        return len(self._templates)


KEPT = _Kept()


def read_template(source: str) -> Template:
    """The template, read now or before.

    Raises
    ------
    InvalidTemplate
        With line and column, and what to write instead.
    """
    if (template := KEPT.get(source)) is not None:
        return template
    if len(source) > MAX_TEMPLATE:
        raise InvalidTemplate(f"a template has at most {MAX_TEMPLATE:,} characters")
    # python-liquid takes a quarter of a second and 19 MB: whoever has no template does not pay for it.
    from eventsink.templates.syntax import read

    template = Template(read(source, frozenset(VARIABLES), VARIABLES))
    KEPT.put(source, template)
    return template
