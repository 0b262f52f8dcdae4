"""Renders the bodies of one sink's template in the router: within what its tenant's templates may take, and with a report of what fails.

A receiver gets what the template writes and nothing else: any other body would be rejected, or worse, accepted and not understood. So a message
waits where its tenant's share is spent, and a template that fails for an alert makes a dead letter of it, which can be replayed.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from eventsink.alerts.alert import Alert
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.destinations.webhook.templated import written
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.sinks.sender import Failed, FailureClass, Message
from eventsink.sinks.sink import Sink
from eventsink.sinks.template_use import TemplateUse
from eventsink.templates.context import MAX_ALERTS
from eventsink.templates.errors import InvalidTemplate, TemplateFailed
from eventsink.templates.template import KEPT, read_template

FIELD = "spec.webhook.template"
LIMITED = "evaluating the templates of the tenant's sinks takes too long: messages wait; write simpler ones, or batch more alerts"
_POLL_SECONDS = 0.05
_decoder = msgspec.json.Decoder(Alert)
_failures_log = Repeated()


class TemplateRenderer:
    """Renders for one sink.

    Parameters
    ----------
    target
        Of that sink; it has a template.
    templates
        Of the process.
    """

    def __init__(self, sink: Sink, target: WebhookTarget, templates: TemplateUse) -> None:
        assert target.template is not None
        self._source = target.template
        self._content_type = target.content_type
        self._uid = sink.uid
        self._sink = f"{sink.namespace}/{sink.name}"
        self._tenant = sink.tenant
        self._templates = templates
        templates.opened(sink.uid, self._source)

    async def render(self, message: Message, *, timeout: float) -> bytes | Failed:
        """The body of a message.

        Parameters
        ----------
        timeout
            Seconds that it may wait for its tenant's share of the event loop.

        Raises
        ------
        msgspec.MsgspecError
            An alert cannot be read.
        """
        if not message.alerts:
            return Failed(FailureClass.MESSAGE, "InvalidMessage", "a template cannot write a group in Alertmanager's format")
        if len(message.alerts) > MAX_ALERTS:
            # Composed before the sink had a template, which would be given a part of them. It is sent in smaller messages.
            return Failed(FailureClass.MESSAGE, "TemplateFailed", f"{FIELD}: it is given at most {MAX_ALERTS} alerts")
        templates, tenant = self._templates, self._tenant
        deadline = time.monotonic() + timeout
        while not templates.allows(tenant):
            if time.monotonic() >= deadline:
                templates.limited(self._uid, self._source, LIMITED)
                return Failed(FailureClass.TRANSIENT, "TemplatesLimited", LIMITED)
            await asyncio.sleep(_POLL_SECONDS)
        if KEPT.get(self._source) is None:
            # Loading python-liquid and reading a template take long: in a thread, and of the tenant's share.
            templates.spend(tenant, await asyncio.to_thread(_read, self._source))
        alerts = [_decoder.decode(alert) for alert in message.alerts]
        began = time.thread_time()
        try:
            body = written(self._source, self._content_type, alerts, sink=self._sink, tenant=tenant)
        except InvalidTemplate as error:
            return Failed(FailureClass.SINK, "TemplateUnreadable", f"this version of the router cannot read {FIELD}: {error}")
        except TemplateFailed as failed:
            return self._failed(f"{FIELD}: {failed}", several=len(alerts) > 1)
        finally:
            templates.spend(tenant, time.thread_time() - began)
        templates.worked(self._uid)
        return body

    def _failed(self, text: str, *, several: bool) -> Failed:
        if not several:  # several are tried again in smaller messages
            self._templates.failed(self._uid, self._source, f"some messages are dead letters, since the template failed: {text}")
            if (more := _failures_log.due()) is not None:
                get_logger().warning(
                    "a template failed: the message is a dead letter", sink=self._sink, tenant=self._tenant, more=more
                )
        return Failed(FailureClass.MESSAGE, "TemplateFailed", text)


def _read(source: str) -> float:
    """Returns the seconds of a processor that it took, but for those of loading python-liquid, which are nobody's."""
    read_template("-")
    began = time.thread_time()
    try:
        read_template(source)
    except InvalidTemplate:
        pass  # rendering says so
    return time.thread_time() - began
