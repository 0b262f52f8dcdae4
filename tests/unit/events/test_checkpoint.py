"""The checkpoint says up to where Events have been sent, and survives whatever others do to its ConfigMap."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from eventsink.events.checkpoint import CONFIG_MAPS, Checkpoint
from eventsink.events.config import CheckpointSettings
from eventsink.events.metrics import EventsMetrics
from eventsink.kube.api import Api, ApiError
from eventsink.kube.lease import LeaderApi, NotLeading
from eventsink.kube.local import LocalApi

KEY = ("system", "eventsink-events-checkpoint")


def checkpoint(api: Api) -> Checkpoint:
    return Checkpoint(api, CheckpointSettings(namespace="system"), EventsMetrics(CollectorRegistry()))


async def data_of(api: Api) -> dict[str, str]:
    found: dict[str, str] = (await api.get(CONFIG_MAPS, KEY))["data"]
    return found


async def test_it_is_read_by_the_next_one() -> None:
    api = LocalApi([CONFIG_MAPS])
    first = checkpoint(api)
    await first.load()
    assert first.position("") == ""
    first.advance({"": "17"})
    await first.write()
    assert await data_of(api) == {"_all": "17"}
    second = checkpoint(api)
    await second.load()
    assert second.position("") == "17"
    assert second.position("shop") == "17"


async def test_the_position_of_a_namespace_that_is_not_followed_any_more_is_forgotten() -> None:
    api = LocalApi([CONFIG_MAPS])
    first = checkpoint(api)
    await first.load()
    first.advance({"shop": "17", "acme": "18"})
    await first.write()
    second = checkpoint(api)
    await second.load()
    second.keep(["acme", "globex"])
    second.advance({"globex": "19"})
    await second.write()
    assert await data_of(api) == {"acme": "18", "globex": "19"}


async def test_what_somebody_else_wrote_or_deleted_is_written_again_and_labels_of_others_stay() -> None:
    api = LocalApi([CONFIG_MAPS])
    one = checkpoint(api)
    await one.load()
    one.advance({"": "17"})
    await one.write()
    found = await api.get(CONFIG_MAPS, KEY)
    await api.replace(CONFIG_MAPS, {**found, "metadata": {**found["metadata"], "labels": {"team": "sre"}}, "data": {"_all": "3"}})
    one.advance({"": "18"})
    await one.write()
    assert await data_of(api) == {"_all": "18"}
    assert (await api.get(CONFIG_MAPS, KEY))["metadata"]["labels"] == {"team": "sre"}
    await api.delete(CONFIG_MAPS, KEY)
    one.advance({"": "19"})
    await one.write()
    assert await data_of(api) == {"_all": "19"}


async def test_nobody_but_the_leader_writes_it() -> None:
    def not_leading() -> float:
        raise NotLeading

    api = LocalApi([CONFIG_MAPS])
    one = checkpoint(LeaderApi(api, not_leading))
    await one.load()
    one.advance({"": "17"})
    with pytest.raises(NotLeading):
        await one.write()
    with pytest.raises(ApiError):
        await api.get(CONFIG_MAPS, KEY)


async def test_what_is_no_position_counts_as_none() -> None:
    api = LocalApi([CONFIG_MAPS])
    metadata = {"namespace": KEY[0], "name": KEY[1]}
    await api.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"_all": "yesterday"}})
    one = checkpoint(api)
    await one.load()
    assert one.position("") == ""


async def test_what_is_no_resource_version_counts_as_absent() -> None:
    api = LocalApi([CONFIG_MAPS])
    data = {"_all": "\N{SUPERSCRIPT TWO}", "shop": "9" * 5000, "acme": "", "globex": "-1", "initech": "17"}
    await api.create(CONFIG_MAPS, {"metadata": {"namespace": KEY[0], "name": KEY[1]}, "data": data})
    found = checkpoint(api)
    await found.load()
    assert [found.position(name) for name in ("", "shop", "acme", "globex", "initech")] == ["", "", "", "", "17"]
