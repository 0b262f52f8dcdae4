"""A status is written also where the CRD is older; after any other failure it is not tried in another form."""

from __future__ import annotations

from typing import cast

import pytest

from eventsink.kube.api import Api, ApiError, Conflict, Forbidden, Invalid, NotFound, Object, Resource, Unavailable
from eventsink.kube.status import StatusApplier
from eventsink.resources.names import EVENTSINKS
from tests.support.clock import ManualClock

BODY = {"metadata": {"name": "a"}, "status": {"observedGeneration": 1, "conditions": [], "delivery": {"lastError": "e"}}}
OLDER = ApiError(500, "InternalError", "field not declared")
CORE = {"observedGeneration": 1, "conditions": []}


class FailingStatusApi:
    """Fails with `errors`, in order, and accepts the statuses after them."""

    def __init__(self, *errors: ApiError | None) -> None:
        self.errors = list(errors)
        self.applied: list[Object] = []

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: str) -> Object:
        assert (resource, manager, subresource) == (EVENTSINKS, "m", "status")
        self.applied.append(obj["status"])
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return obj


def applier(server: FailingStatusApi, clock: ManualClock | None = None) -> StatusApplier:
    return StatusApplier(cast(Api, server), EVENTSINKS, "m", retry_seconds=60.0, clock=clock or ManualClock())


async def test_the_whole_status_is_written_where_the_crd_has_all_fields() -> None:
    server = FailingStatusApi()
    statuses = applier(server)
    assert await statuses.apply(BODY) == BODY
    assert (server.applied, statuses.complete) == ([BODY["status"]], True)


@pytest.mark.parametrize(
    "error", [ApiError(500, "InternalError", "field not declared"), Invalid(422, "Invalid", "unknown field")]
)
async def test_an_older_crd_gets_only_the_core_fields(error: ApiError) -> None:
    server = FailingStatusApi(error)
    statuses = applier(server)
    for _ in range(2):
        assert (await statuses.apply(BODY))["status"] == CORE
    assert (server.applied, statuses.complete) == ([BODY["status"], CORE, CORE], False)


async def test_all_fields_are_tried_again_after_a_while_and_written_once_the_crd_has_them() -> None:
    server, clock = FailingStatusApi(OLDER, None, None, OLDER), ManualClock()
    statuses = applier(server, clock)
    await statuses.apply(BODY)
    clock.now += 59.0
    assert not statuses.tries_all
    await statuses.apply(BODY)
    clock.now += 2.0
    assert (statuses.complete, statuses.tries_all) == (False, True)
    await statuses.apply(BODY)  # still older
    assert (statuses.complete, statuses.tries_all) == (False, False)
    clock.now += 61.0
    assert await statuses.apply(BODY) == BODY
    assert (statuses.complete, statuses.tries_all) == (True, True)
    assert server.applied == [BODY["status"], CORE, CORE, BODY["status"], CORE, BODY["status"]]


@pytest.mark.parametrize(
    "error",
    [
        NotFound(404, "NotFound", "gone"),
        Conflict(409, "Conflict", "changed"),
        Forbidden(403, "Forbidden", "no right"),
        Unavailable(503, "Unavailable", "unavailable"),
    ],
)
async def test_any_other_error_is_raised_and_changes_nothing(error: ApiError) -> None:
    server = FailingStatusApi(error)
    statuses = applier(server)
    with pytest.raises(type(error)):
        await statuses.apply(BODY)
    assert (server.applied, statuses.complete) == ([BODY["status"]], True)
    await statuses.apply(BODY)
    assert server.applied[1] == BODY["status"]


async def test_a_failure_of_the_core_fields_too_does_not_mean_an_older_crd() -> None:
    error = ApiError(500, "InternalError", "etcd")
    statuses = applier(FailingStatusApi(error, error))
    with pytest.raises(ApiError, match="etcd"):
        await statuses.apply(BODY)
    assert statuses.complete
