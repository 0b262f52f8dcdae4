"""The table of the facade's calls: what `app.py` serves and what the OpenAPI document says, from one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from eventsink.rest.models import (
    ChangedSink,
    CreateRequest,
    DeletedSink,
    DeliveryTest,
    InstallAnswer,
    InstallRequest,
    ManySinks,
    NoContent,
    OneSink,
    RestModel,
    UpdateRequest,
)

MAX_TENANT_LENGTH = 63
MAX_PAGE_SIZE = 500
MAX_IDEMPOTENCY_KEY = 255
IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"
MAX_PAGE_TOKEN = 512
MAX_HEADER = 512
EXAMPLE_ID = "6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11"


@dataclass(frozen=True)
class Parameter:
    """A parameter beside the body."""

    name: str
    place: Literal["path", "query", "header"]
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
    answer: type[RestModel]
    refusals: tuple[int, ...]
    request: type[RestModel] | None = None
    body_required: bool = True
    parameters: tuple[Parameter, ...] = ()
    example: Any = None
    answer_example: Any = None
    answer_headers: tuple[str, ...] = ()

    def query_names(self) -> set[str]:
        """The parameters of its query."""
        return {one.name for one in self.parameters if one.place == "query"}


ID = Parameter("id", "path", "The id of the sink.", {"type": "string", "format": "uuid"}, required=True, example=EXAMPLE_ID)
IF_MATCH = Parameter(
    "If-Match",
    "header",
    "The ETag of an answer: refused with 412 if the sink was changed since.",
    {"type": "string", "minLength": 1, "maxLength": MAX_HEADER},
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Any text of your own: the same request with the same key again makes nothing new and answers the sink that was made.",
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
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="create_event_sink",
        method="POST",
        path="/v1/event_sink",
        summary="Make a sink",
        description="Waits about 10 seconds for the first verdict. What cannot be in force is refused and leaves nothing behind; "
        "where there is no verdict yet, the sink stays and the answer says `ready: false`.",
        request=CreateRequest,
        answer=ChangedSink,
        refusals=(400, 401, 403, 409, 413, 415, 429, 503),
        parameters=(IDEMPOTENCY_KEY,),
        example={
            "tenant_id": "acme",
            "name": "Security alerts",
            "description": "Detections of the security team",
            "event_sink_args": {"Webhook": {"url": "https://example.com/hook"}},
        },
        answer_example={"event_sink": _WEBHOOK},
        answer_headers=("ETag",),
    ),
    Operation(
        name="list_event_sinks",
        method="GET",
        path="/v1/event_sink",
        summary="List a tenant's sinks",
        description="All of them, oldest first, those made by YAML included. With `pagination[page_size]`, page by page.",
        answer=ManySinks,
        refusals=(400, 401, 403, 429, 503),
        parameters=(
            Parameter(
                "tenant_id",
                "query",
                "Whose sinks.",
                {"type": "string", "minLength": 1, "maxLength": MAX_TENANT_LENGTH},
                required=True,
                example="acme",
            ),
            Parameter(
                "pagination[page_size]",
                "query",
                "At most so many.",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
            ),
            Parameter(
                "pagination[page_token]",
                "query",
                "`pagination.next_page_token` of the answer before.",
                {"type": "string", "maxLength": MAX_PAGE_TOKEN},
            ),
        ),
        answer_example={"event_sinks": [_WEBHOOK]},
    ),
    Operation(
        name="get_event_sink",
        method="GET",
        path="/v1/event_sink/{id}",
        summary="Read a sink",
        description="As it is now.",
        answer=OneSink,
        refusals=(400, 401, 404, 429, 503),
        parameters=(ID,),
        answer_example={"event_sink": _WEBHOOK},
        answer_headers=("ETag",),
    ),
    Operation(
        name="update_event_sink",
        method="PUT",
        path="/v1/event_sink/{id}",
        summary="Change a sink",
        description="What the body does not name stays; null takes away what is optional. Of a Slack sink's destination only the "
        "channel can change. The type never does.",
        request=UpdateRequest,
        answer=ChangedSink,
        refusals=(400, 401, 403, 404, 409, 412, 413, 415, 429, 503),
        parameters=(ID, IF_MATCH),
        example={"id": EXAMPLE_ID, "name": "Security alerts, all of them"},
        answer_example={"event_sink": _WEBHOOK | {"name": "Security alerts, all of them", "updated_at": "2024-05-10T07:30:00Z"}},
        answer_headers=("ETag",),
    ),
    Operation(
        name="delete_event_sink",
        method="DELETE",
        path="/v1/event_sink/{id}",
        summary="Delete a sink",
        description="What still waits for it is not delivered any more.",
        answer=DeletedSink,
        refusals=(400, 401, 403, 404, 409, 429, 503),
        parameters=(ID,),
        answer_example={"id": EXAMPLE_ID, "tenant_id": "acme"},
    ),
    Operation(
        name="test_event_sink",
        method="POST",
        path="/v1/event_sink/{id}/test",
        summary="Send a test alert",
        description="A marked alert goes through the router to this sink alone; the answer says what became of it.",
        request=NoContent,
        body_required=False,
        answer=DeliveryTest,
        refusals=(400, 401, 403, 404, 409, 413, 415, 429, 503),
        parameters=(ID,),
        example={},
        answer_example={
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
        summary="Have a person connect Slack",
        description="Answers with a link for that person's browser: Slack asks them, and the sink is made, or connected anew. "
        "Where the platform has set it up.",
        request=InstallRequest,
        answer=InstallAnswer,
        refusals=(400, 401, 403, 404, 409, 413, 415, 429, 503),
        example={"tenant_id": "acme", "name": "Security alerts", "channel": "#security-alerts"},
        answer_example={"url": "https://sinks.example.com/v1/slack/open?state=...", "expires_at": "2024-05-09T20:11:32Z"},
    ),
)
