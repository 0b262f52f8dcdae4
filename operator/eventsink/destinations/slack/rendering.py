"""Renders the messages of one sink in the router: within what its tenant's templates may take, and with a report of what fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from eventsink.alerts.alert import Alert
from eventsink.destinations.slack.form import SlackForm, TemplateForm
from eventsink.destinations.slack.message import SlackMessage, render
from eventsink.destinations.slack.templated import written
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.sinks.sink import Sink
from eventsink.sinks.template_use import TemplateUse
from eventsink.templates.errors import InvalidTemplate
from eventsink.templates.template import read_template

LIMITED = (
    "evaluating the templates of the tenant's sinks takes too long: some messages are the built-in ones; write simpler templates"
)
_failures_log = Repeated()


class Renderer:
    """Renders for one sink.

    Parameters
    ----------
    form
        What its owner wants shown.
    templates
        Of the process.
    """

    def __init__(self, sink: Sink, form: SlackForm, templates: TemplateUse) -> None:
        self._uid = sink.uid
        self._sink = f"{sink.namespace}/{sink.name}"
        self._tenant = sink.tenant
        self._form = form
        self._built_in = form.model_copy(update={"template": None})
        self._templates = templates
        templates.opened(sink.uid, form.template)

    async def prepare(self) -> None:
        """Read the templates where they are not read (any more), of the tenant's share and in a thread: loading python-liquid takes long."""
        if self._form.template is not None and self._templates.allows(self._tenant):
            self._templates.spend(self._tenant, await asyncio.to_thread(_read, self._form.template))

    def render(self, alerts: Sequence[Alert], *, lookup: str = "") -> SlackMessage:
        """The message about some alerts; the built-in one, where a template fails or its tenant's share is spent."""
        form, tenant = self._form, self._tenant
        if form.template is None:
            return render(alerts, form, sink=self._sink, tenant=tenant, lookup=lookup)
        if not self._templates.allows(tenant):
            self._templates.limited(self._uid, form.template, LIMITED)
            return render(alerts, self._built_in, sink=self._sink, tenant=tenant, lookup=lookup)
        began = time.thread_time()
        own = written(form.template, alerts, sink=self._sink, tenant=tenant)
        self._templates.spend(tenant, time.thread_time() - began)
        message = render(alerts, form, sink=self._sink, tenant=tenant, lookup=lookup, own=own)
        if message.template_problem:
            text = f"some messages are the built-in ones, since a template failed: {message.template_problem}"
            self._templates.failed(self._uid, form.template, text)
            if (more := _failures_log.due()) is not None:
                get_logger().warning(
                    "a template failed: the message is the built-in one", sink=self._sink, tenant=tenant, more=more
                )
        else:
            self._templates.worked(self._uid)
        return message


def _read(template: TemplateForm) -> float:
    """Returns the seconds of a processor that it took, but for those of loading python-liquid, which are nobody's."""
    read_template("-")
    began = time.thread_time()
    for source in (template.title, template.body):
        if source is not None:
            try:
                read_template(source)
            except InvalidTemplate:
                pass  # rendering says so
    return time.thread_time() - began
