"""The data of Secrets."""

from __future__ import annotations

import pytest

from eventsink.kube.api import Unavailable
from eventsink.kube.secrets import encoded, secret_data


def test_what_was_encoded_is_decoded() -> None:
    assert secret_data({"data": encoded({"a": "b", "c": ""})}) == {"a": b"b", "c": b""}
    assert secret_data({}) == secret_data({"data": None}) == {}


@pytest.mark.parametrize("data", ["canary", ["canary"], {"a": 1}, {"a": None}, {"a": "canar"}, {"a": "\u00e4"}], ids=str)
def test_what_no_api_server_stores_is_an_api_server_that_is_unavailable(data: object) -> None:
    with pytest.raises(Unavailable) as raised:
        secret_data({"data": data})
    assert "canar" not in str(raised.value)
