"""How the credentials and the certificate of a webhook are compiled, and what is said of those that cannot be used."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.resolve import WebhookResolver
from eventsink.destinations.webhook.spec import WebhookStatus
from eventsink.destinations.webhook.target import Header, OAuth2Client, WebhookTarget
from eventsink.resources.eventsink import EventSink, InvalidSpec, read_eventsink
from tests.support.sinks import event_sink

AUTHORITY = trustme.CA()
NOW = datetime.now(UTC)
OWN, KEPT = "hook", "eventsink-rest-alerts-01234567"
ORIGIN = b"https://hooks.example.com"


def issued(*, days: float = 365, since: float = 1) -> tuple[bytes, bytes]:
    """A client's certificate and its key."""
    made = AUTHORITY.issue_cert(
        "router.example.com", not_before=NOW - timedelta(days=since), not_after=NOW + timedelta(days=days)
    )
    return made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()


CERTIFICATE, KEY = issued()


def short() -> dict[str, bytes]:
    """A certificate with a key that TLS does not take any more."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "router.example.com")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=1), NOW + timedelta(days=1))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    return {"tls.crt": made.sign(key, hashes.SHA256()).public_bytes(encoding), "tls.key": private}


def of_unknown_kind() -> bytes:
    """A certificate with a key of an algorithm that nobody knows."""
    known, unknown = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0263")
    der = x509.load_pem_x509_certificate(CERTIFICATE).public_bytes(serialization.Encoding.DER)
    assert der.count(known) == 1
    return x509.load_der_x509_certificate(der.replace(known, unknown)).public_bytes(serialization.Encoding.PEM)


def ref(key: str, name: str = OWN) -> dict[str, str]:
    return {"name": name, "key": key}


def sink(**webhook: Any) -> EventSink:
    document = event_sink("acme")
    document["spec"] = {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://hooks.example.com/x", **webhook}}
    return read_eventsink({**document, "metadata": {**document["metadata"], "uid": "u", "generation": 1}})


async def never() -> NoReturn:
    raise AssertionError


def target(
    made: EventSink,
    now: datetime = NOW,
    policy: WebhookPolicy | None = None,
    *,
    hook: dict[str, bytes] | None = None,
    kept: dict[str, bytes] | None = None,
) -> WebhookTarget:
    """What is compiled with these values in the Secret of the tenant, and in that of the REST API."""
    secrets = {name: data for name, data in ((OWN, hook), (KEPT, kept)) if data is not None}
    resolver = WebhookResolver(policy or WebhookPolicy(), now=lambda: now)
    found = asyncio.run(resolver.resolve(made, secrets, namespace_uid="", before=never)).target
    assert isinstance(found, WebhookTarget)
    return found


def problem(
    made: EventSink,
    now: datetime = NOW,
    policy: WebhookPolicy | None = None,
    *,
    hook: dict[str, bytes] | None = None,
    kept: dict[str, bytes] | None = None,
) -> Problem:
    with pytest.raises(Problem) as raised:
        target(made, now, policy, hook=hook, kept=kept)
    assert "canary" not in raised.value.message
    return raised.value


def basic(**more: Any) -> dict[str, Any]:
    return {"auth": {"basic": {"username": "acme", "passwordSecretRef": ref("password")} | more}}


BEARER = {"auth": {"bearer": {"tokenSecretRef": ref("token")}}}
OAUTH2 = {"tokenUrl": "https://login.example.com/token", "clientId": "acme", "clientSecretRef": ref("secret")}
MTLS = {"tls": {"clientCertSecretRef": {"name": OWN}}}


def test_a_user_name_and_a_password_become_a_header_that_every_router_knows() -> None:
    made = target(sink(**basic()), hook={"password": "pässword:1\n".encode()})
    assert made.headers == (Header(name="Authorization", value="Basic " + base64.b64encode("acme:pässword:1".encode()).decode()),)
    assert not made.can_be_misread()
    both = target(
        sink(auth={"basic": {"usernameSecretRef": ref("u"), "passwordSecretRef": ref("p")}}), hook={"u": b"a", "p": b"b"}
    )
    assert both.headers[0].value == "Basic YTpi"


def test_a_token_becomes_a_header() -> None:
    made = target(sink(**BEARER, headers=[{"name": "X-A", "value": "b"}]), hook={"token": b"abc.def\n"})
    assert made.headers == (Header(name="X-A", value="b"), Header(name="Authorization", value="Bearer abc.def"))


def test_a_client_of_an_authorization_server_is_compiled_for_routers_that_know_it_only() -> None:
    more = {"scopes": ["a", "b"], "endpointParams": [{"name": "audience", "value": "x"}]}
    made = target(sink(auth={"oauth2": OAUTH2 | more}), hook={"secret": b"s"})
    assert made.oauth2 == OAuth2Client(
        token_url="https://login.example.com/token",
        client_id="acme",
        client_secret="s",
        scopes=("a", "b"),
        endpoint_params=(("audience", "x"),),
    )
    assert made.headers == ()
    assert made.can_be_misread()
    assert WebhookTarget.model_validate_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("webhook", "data", "sentence"),
    [
        (BEARER, {"token": b"canary canary"}, "a token is one line of ASCII characters without spaces"),
        (BEARER, {"token": b"canary\r\nX-A: b"}, "a token is one line"),
        (BEARER, {"token": "canary\N{SNOWMAN}".encode()}, "a token is one line of ASCII"),
        (basic(), {"password": b"canary\r\nX-A: b"}, "a password is one line"),
        (basic(username=None, usernameSecretRef=ref("u")), {"u": b"canary:x", "password": b"b"}, "without colons"),
        ({"auth": {"oauth2": OAUTH2}}, {"secret": b"canary\ncanary"}, "a client's secret is one line"),
        (
            {"auth": {"oauth2": {k: v for k, v in OAUTH2.items() if k != "clientId"} | {"clientIdSecretRef": ref("id")}}},
            {"id": "canary\N{SNOWMAN}".encode(), "secret": b"s"},
            "a client id is one line of ASCII",
        ),
        (MTLS, {"tls.crt": b"canary", "tls.key": KEY}, "tls.crt holds no certificate in PEM form"),
        (MTLS, {"tls.crt": CERTIFICATE, "tls.key": b"canary"}, "tls.key holds no private key in PEM form"),
        (MTLS, {"tls.crt": CERTIFICATE, "tls.key": issued()[1]}, "is not that of the first certificate"),
        (MTLS, {"tls.crt": CERTIFICATE + issued()[1], "tls.key": KEY}, "store certificates only in it"),
        (MTLS, short(), "a key of at least 2048 bits (RSA)"),
        (MTLS, {"tls.crt": of_unknown_kind(), "tls.key": KEY}, "has a key of an unknown kind"),
        (
            MTLS,
            {
                "tls.crt": CERTIFICATE,
                "tls.key": serialization.load_pem_private_key(KEY, None).private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(b"canary"),
                ),
            },
            "is encrypted; store it without a password",
        ),
    ],
)
def test_a_credential_that_cannot_be_used_is_reported_without_its_value(
    webhook: dict[str, Any], data: dict[str, bytes], sentence: str
) -> None:
    given = {
        name: {kind: {k: v for k, v in fields.items() if v is not None} for kind, fields in value.items()}
        for name, value in webhook.items()
    }
    found = problem(sink(**given), hook=data)
    assert found.reason == "InvalidSecretValue"
    assert sentence in found.message


def test_a_missing_certificate_is_reported_with_the_command_that_creates_it() -> None:
    found = problem(sink(**MTLS))
    assert (found.reason, found.effect) == ("SecretNotFound", Effect.GRACE)
    assert "create secret tls hook --cert=FILE --key=FILE" in found.message


def test_a_client_certificate_is_compiled_with_its_key_and_the_status_shows_when_it_expires() -> None:
    made = target(sink(tls=MTLS["tls"] | {"serverName": "a.example"}), hook={"tls.crt": CERTIFICATE, "tls.key": KEY})
    assert made.client_certificate is not None
    assert CERTIFICATE.decode().strip() in made.client_certificate
    assert KEY.decode().strip() in made.client_certificate
    assert (made.server_name, made.can_be_misread()) == ("a.example", True)
    assert "PRIVATE" not in repr(made)
    shown = WebhookResolver(WebhookPolicy()).status(made)
    assert shown is not None
    assert shown.client_cert_expires is not None
    assert "PRIVATE" not in str(shown)
    assert datetime.fromisoformat(shown.client_cert_expires) - NOW > timedelta(days=364)


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("hooks.example.com", True),
        ("hooks", True),
        ("192.0.2.7", True),
        (f"{'a' * 63}.example.com", True),
        (f"{'a' * 64}.example.com", False),
        ("hooks..example.com", False),
        (".example.com", False),
        ("example.com.", False),
        ("-a.example.com", False),
        ("hooks.example.com:443", False),
        ("hooks.example.com\n", False),
    ],
)
def test_a_name_for_tls_that_no_connection_could_ask_for_is_rejected(name: str, usable: bool) -> None:
    if usable:
        sink(tls={"serverName": name})
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    else:
        with pytest.raises(InvalidSpec, match="a server name consists of"):
            sink(tls={"serverName": name})


def test_an_expired_certificate_is_rejected_and_one_that_expires_soon_is_remarked_on() -> None:
    certificate, key = issued(days=5)
    data = {"tls.crt": certificate, "tls.key": key}
    found = problem(sink(**MTLS), NOW + timedelta(days=5), hook=data)
    assert found.reason == "ClientCertificateExpired"
    assert "renew it" in found.message
    early = problem(sink(**MTLS), NOW - timedelta(days=2), hook=data)
    assert "is valid from" in early.message
    assert (early.may_pass, early.again_after) == (True, 3601.0)
    moment = problem(sink(**MTLS), NOW - timedelta(days=1, seconds=2), hook=data)
    assert moment.again_after is not None
    assert 1.0 <= moment.again_after <= 4.0, "whoever issued it has a clock that is ahead"
    made = target(sink(**MTLS), hook=data)
    for days, remark in ((0, "expires on"), (6, "expired on"), (-4, "")):
        resolver = WebhookResolver(WebhookPolicy(), now=lambda days=days: NOW + timedelta(days=days))  # type: ignore[misc]
        assert remark in resolver.remark(sink(**MTLS), resolver.status(made))
        assert bool(remark) == bool(resolver.remark(sink(**MTLS), resolver.status(made)))
    assert WebhookResolver(WebhookPolicy()).remark(sink(), WebhookStatus(origin="https://a")) == ""


def test_auth_is_not_added_to_a_url_that_has_a_password_itself() -> None:
    with_auth = with_url_of_a_secret({"urlSecretRef": ref("url"), **BEARER})
    found = problem(with_auth, hook={"url": b"https://canary:canary@example.com/", "token": b"t"})
    assert "remove user and password from the URL, or spec.webhook.auth" in found.message
    found = problem(with_url_of_a_secret({"urlSecretRef": ref("url"), **MTLS}), hook={"url": b"http://example.com/"})
    assert "use an https URL" in found.message


def with_url_of_a_secret(webhook: dict[str, Any]) -> EventSink:
    document = event_sink("acme")
    document["spec"] = {"tenant": "acme", "name": "Alerts", "webhook": webhook}
    return read_eventsink({**document, "metadata": {**document["metadata"], "uid": "u", "generation": 1}})


def test_the_policy_of_the_platform_decides_on_authorization_servers_too() -> None:
    policy = WebhookPolicy(allowed_hosts=("hooks.example.com",))
    made = sink(auth={"oauth2": OAUTH2})
    found = problem(made, policy=policy, hook={"secret": b"s"})
    assert (found.reason, found.effect, found.path) == ("URLNotAllowed", Effect.WITHDRAW, "spec.webhook.auth.oauth2.tokenUrl")
    assert [one.path for one in WebhookResolver(policy).problems(made)] == [found.path]


@pytest.mark.parametrize(
    ("webhook", "data", "sent"),
    [
        ({"auth": {"bearer": {"tokenSecretRef": ref("t", KEPT)}}}, {"t": b"t", "origin": ORIGIN}, True),
        ({"auth": {"bearer": {"tokenSecretRef": ref("t", KEPT)}}}, {"t": b"t", "origin": b"https://other.example.com"}, False),
        ({"auth": {"bearer": {"tokenSecretRef": ref("t", KEPT)}}}, {"t": b"t"}, False),
        ({"auth": {"basic": {"username": "a", "passwordSecretRef": ref("t", KEPT)}}}, {"t": b"t"}, False),
        (
            {"auth": {"oauth2": OAUTH2 | {"clientSecretRef": ref("t", KEPT)}}},
            {"t": b"t", "origin": ORIGIN, "token-origin": b"https://login.example.com"},
            True,
        ),
        (
            {"auth": {"oauth2": OAUTH2 | {"clientSecretRef": ref("t", KEPT)}}},
            {"t": b"t", "origin": ORIGIN, "token-origin": b"https://thief.example.com"},
            False,
        ),
        ({"auth": {"oauth2": OAUTH2 | {"clientSecretRef": ref("t", KEPT)}}}, {"t": b"t", "origin": ORIGIN}, False),
    ],
)
def test_what_the_rest_api_keeps_is_sent_only_where_it_was_given_for(
    webhook: dict[str, Any], data: dict[str, bytes], sent: bool
) -> None:
    if sent:
        target(sink(**webhook), kept=data)
    else:
        assert problem(sink(**webhook), kept=data).reason == "HostMismatch"
