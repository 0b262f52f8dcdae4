"""The table of calls: what `app.py` serves and what the OpenAPI document says, from one source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from eventsink.destinations.arguments import RestModel
from eventsink.resources.mutes import MAX_MUTES
from eventsink.resources.rules import MAX_TENANT_LENGTH
from eventsink.rest.models import (
    ChangedSink,
    CreateRequest,
    DeletedSink,
    DeliveryTest,
    ManySinks,
    MuteRequest,
    NoContent,
    OneSink,
    UpdateRequest,
)
from eventsink.rest.pages.slack_install import InstallRequest, InstallResponse

MAX_PAGE_SIZE = 500
MAX_IDEMPOTENCY_KEY = 255
IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"
MAX_PAGE_TOKEN = 512
MAX_HEADER = 512
READ = ("GET", "HEAD")
"""The methods of what is only read: HEAD gets the head of the response to GET."""
EXAMPLE_ID = "6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11"


@dataclass(frozen=True)
class Parameter:
    """A parameter beside the body."""

    name: str
    location: Literal["path", "query", "header"]
    description: str
    schema: dict[str, Any]
    required: bool = False
    example: Any = None


@dataclass(frozen=True)
class Operation:
    """One call."""

    name: str
    method: str
    path: str
    summary: str
    description: str
    response: type[RestModel]
    errors: tuple[int, ...]
    request: type[RestModel] | None = None
    body_required: bool = True
    parameters: tuple[Parameter, ...] = ()
    example: Any = None
    response_example: Any = None
    response_headers: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it is served for; the document names the first."""
        return READ if self.method == "GET" else (self.method,)

    def query_names(self) -> set[str]:
        """The parameters of its query."""
        return {one.name for one in self.parameters if one.location == "query"}


ID = Parameter("id", "path", "The id of the sink.", {"type": "string", "format": "uuid"}, required=True, example=EXAMPLE_ID)
IF_MATCH = Parameter(
    "If-Match",
    "header",
    "The ETag of a response, weak or strong: 412 if the sink was changed since.",
    {"type": "string", "minLength": 1, "maxLength": MAX_HEADER},
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "A text of your choice: the same request with the same key again creates nothing and returns the sink that was created.",
    {"type": "string", "pattern": IDEMPOTENCY_KEY_PATTERN, "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY},
)

_WEBHOOK = {
    "id": EXAMPLE_ID,
    "tenant_id": "acme",
    "name": "Security alerts",
    "description": "Detections of the security team",
    "event_sink_type": "Webhook",
    "configuration": {"Webhook": {"url": "https://example.com/hook"}},
    "created_at": "2024-05-09T20:01:32Z",
    "updated_at": "2024-05-09T20:01:32Z",
    "ready": True,
    "reason": "",
    "delivering": {
        "status": "True",
        "reason": "Delivered",
        "message": "the last message arrived",
        "last_delivered_at": "2024-05-10T06:12:03Z",
    },
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="create_event_sink",
        method="POST",
        path="/v1/event_sink",
        summary="Create a sink",
        description="Waits about 10 seconds for the first verdict. A sink that is rejected gets a 400 and leaves nothing behind; "
        "without a verdict by then, the sink stays and the response says `ready: false`.",
        request=CreateRequest,
        response=ChangedSink,
        errors=(400, 401, 403, 409, 413, 415, 429, 503),
        parameters=(IDEMPOTENCY_KEY,),
        example={
            "tenant_id": "acme",
            "name": "Security alerts",
            "description": "Detections of the security team",
            "event_sink_args": {"Webhook": {"url": "https://example.com/hook"}},
        },
        response_example={"event_sink": _WEBHOOK},
        response_headers=("ETag",),
    ),
    Operation(
        name="list_event_sinks",
        method="GET",
        path="/v1/event_sink",
        summary="List a tenant's sinks",
        description="All of them, oldest first, including those created with YAML. With `pagination[page_size]`, page by page.",
        response=ManySinks,
        errors=(400, 401, 403, 429, 503),
        parameters=(
            Parameter(
                "tenant_id",
                "query",
                "The tenant whose sinks to list.",
                {"type": "string", "minLength": 1, "maxLength": MAX_TENANT_LENGTH},
                required=True,
                example="acme",
            ),
            Parameter(
                "pagination[page_size]",
                "query",
                "Sinks in one page, at most.",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
            ),
            Parameter(
                "pagination[page_token]",
                "query",
                "`pagination.next_page_token` of the previous response.",
                {"type": "string", "maxLength": MAX_PAGE_TOKEN},
            ),
        ),
        response_example={"event_sinks": [_WEBHOOK]},
    ),
    Operation(
        name="get_event_sink",
        method="GET",
        path="/v1/event_sink/{id}",
        summary="Read a sink",
        description="Its current state.",
        response=OneSink,
        errors=(400, 401, 404, 429, 503),
        parameters=(ID,),
        response_example={"event_sink": _WEBHOOK},
        response_headers=("ETag",),
    ),
    Operation(
        name="update_event_sink",
        method="PUT",
        path="/v1/event_sink/{id}",
        summary="Change a sink",
        description="Fields that the body omits stay; null clears an optional field. The type never changes, nor does "
        "the credential of a Slack sink.",
        request=UpdateRequest,
        response=ChangedSink,
        errors=(400, 401, 403, 404, 409, 412, 413, 415, 429, 503),
        parameters=(ID, IF_MATCH),
        example={"id": EXAMPLE_ID, "name": "Security alerts, all of them"},
        response_example={
            "event_sink": _WEBHOOK | {"name": "Security alerts, all of them", "updated_at": "2024-05-10T07:30:00Z"}
        },
        response_headers=("ETag",),
    ),
    Operation(
        name="delete_event_sink",
        method="DELETE",
        path="/v1/event_sink/{id}",
        summary="Delete a sink",
        description="Its queued deliveries are not sent any more.",
        response=DeletedSink,
        errors=(400, 401, 403, 404, 409, 429, 503),
        parameters=(ID,),
        response_example={"id": EXAMPLE_ID, "tenant_id": "acme"},
    ),
    Operation(
        name="mute_event_sink",
        method="POST",
        path="/v1/event_sink/{id}/mute",
        summary="Mute alerts for a time",
        description="Adds a mute to the sink: alerts that satisfy all of its matchers are not sent to it until then, and what still fires when "
        "it ends is sent then. A mute with the same matchers and the same `from` is replaced, so a request may be repeated; mutes that have "
        "ended are removed.",
        request=MuteRequest,
        response=ChangedSink,
        errors=(400, 401, 403, 404, 409, 412, 413, 415, 429, 503),
        parameters=(ID, IF_MATCH),
        example={"matchers": ['alertname="HighLatency"'], "duration": "2h", "comment": "database migration"},
        response_example={
            "event_sink": _WEBHOOK
            | {
                "updated_at": "2024-05-10T07:30:00Z",
                "mutes": [
                    {
                        "matchers": ['alertname="HighLatency"'],
                        "until": "2024-05-10T09:30:00Z",
                        "comment": "database migration",
                    }
                ],
            }
        },
        response_headers=("ETag",),
    ),
    Operation(
        name="unmute_event_sink",
        method="DELETE",
        path="/v1/event_sink/{id}/mute",
        summary="Remove mutes",
        description="Removes all mutes of the sink, or with `index` and `If-Match` one of them. What still fires is sent at once.",
        response=ChangedSink,
        errors=(400, 401, 403, 404, 409, 412, 428, 429, 503),
        parameters=(
            ID,
            Parameter(
                "index",
                "query",
                "Position of the mute in the sink's `mutes`, as in the response whose ETag is sent as If-Match; the first one is 0.",
                {"type": "integer", "minimum": 0, "maximum": MAX_MUTES - 1},
            ),
            IF_MATCH,
        ),
        response_example={"event_sink": _WEBHOOK},
        response_headers=("ETag",),
    ),
    Operation(
        name="test_event_sink",
        method="POST",
        path="/v1/event_sink/{id}/test",
        summary="Send a test alert",
        description="Sends an alert that is marked as a test through the router to this sink alone; the response has the outcome.",
        request=NoContent,
        body_required=False,
        response=DeliveryTest,
        errors=(400, 401, 403, 404, 409, 413, 415, 429, 503),
        parameters=(ID,),
        example={},
        response_example={
            "delivered": True,
            "status": "2xx",
            "reason": "",
            "message": "the test alert was delivered",
            "seconds": 0.041,
            "delivery_id": "01J0000000000000000000000",
        },
    ),
    Operation(
        name="install_slack",
        method="POST",
        path="/v1/slack/install",
        summary="Let a person connect Slack",
        description="Returns a link for that person's browser: Slack asks for consent, then the sink is created, or reconnected. "
        "Only where the platform has configured it.",
        request=InstallRequest,
        response=InstallResponse,
        errors=(400, 401, 403, 404, 409, 413, 415, 429, 503),
        example={"tenant_id": "acme", "name": "Security alerts", "channel": "#security-alerts"},
        response_example={"url": "https://sinks.example.com/v1/slack/open?state=...", "expires_at": "2024-05-09T20:11:32Z"},
    ),
)
