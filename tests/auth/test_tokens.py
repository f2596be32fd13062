"""Tokens that are forged, old, for others, or of an issuer that is away; and those that are good."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.issuers import AUDIENCE, TestIssuer, b64, new_key, unsigned
from wes_bridge.auth import issuer as issuer_module
from wes_bridge.auth.authenticator import Call, RefusedError, UnavailableError
from wes_bridge.auth.oidc import Oidc
from wes_bridge.auth.principal import Principal
from wes_bridge.model.access import OidcConfig


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    made = TestIssuer()
    yield made
    made.close()


class Door:
    """An authenticator, and a loop for it; its clock can be set."""

    def __init__(self, issuer: TestIssuer, **config: Any) -> None:
        self.now = 0.0
        self.runner = asyncio.Runner()
        settings = {"issuer": issuer.url, "audience": [AUDIENCE, "other"], **config}
        self.oidc = Oidc(OidcConfig.model_validate(settings), now=lambda: time.time() + self.now)
        self.oidc._issuer._clock = lambda: time.monotonic() + self.now

    def ask(self, token: str, scheme: str = "bearer") -> Principal | None:
        call = Call("GET", "/", scheme, token, None)
        return self.runner.run(self.oidc.authenticate(call))

    def refusal(self, token: str) -> RefusedError:
        with pytest.raises(RefusedError) as found:
            self.ask(token)
        assert token not in str(found.value)
        return found.value

    def close(self) -> None:
        self.runner.run(self.oidc.close())
        self.runner.close()


@pytest.fixture
def door(issuer: TestIssuer) -> Iterator[Door]:
    made = Door(issuer)
    yield made
    made.close()


def test_a_good_token_tells_who_calls(issuer: TestIssuer, door: Door) -> None:
    token = issuer.token(groups=["radio", 3, "vlbi"], preferred_username="Alice A.")
    found = door.ask(token)
    assert found is not None
    assert (found.name, found.display) == (f"{issuer.url}#alice", "Alice A.")
    assert found.groups == {"radio", "vlbi"} and found.roles == {"user"}
    assert found.token is not None and found.token.get_secret_value() == token
    assert token not in repr(found) + found.model_dump_json() + str(found)


@pytest.mark.parametrize(
    "kind", ["RS256", "RS384", "RS512", "PS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
)
def test_signatures_with_a_public_key_are_taken(issuer: TestIssuer, door: Door, kind: str) -> None:
    key = new_key(kind, "new")
    issuer.keys.append(key)
    assert door.ask(issuer.token(key)) is not None
    other = issuer.token(key).rpartition(".")[0] + "." + issuer.token(new_key(kind, "new")).rpartition(".")[2]
    door.refusal(other)


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", None])
def test_types_of_tokens_that_are_taken(issuer: TestIssuer, door: Door, kind: str | None) -> None:
    assert door.ask(issuer.token(head={"typ": kind})) is not None


@pytest.mark.parametrize(
    "claim", [{"aud": ["x", "other"]}, {"nbf": int(time.time()) + 30}, {"exp": time.time() + 3600.5}]
)
def test_claims_that_are_fine(issuer: TestIssuer, door: Door, claim: dict[str, Any]) -> None:
    assert door.ask(issuer.token(**claim)) is not None


now = int(time.time())


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": now - 3600}, "expired"),
        ({"exp": now - 61}, "expired"),
        ({"nbf": now + 3600}, "not valid yet"),
        ({"iat": now + 3600}, "in the future"),
        ({"exp": None}, "exp"),
        ({"exp": "9999999999"}, "exp"),
        ({"exp": True}, "exp"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "a" * 201}, "sub"),
        ({"sub": "a\nb"}, "printed"),
        ({"aud": None}, "aud"),
        ({"aud": "somebody-else"}, "not for this server"),
        ({"aud": []}, "not for this server"),
        ({"aud": ["wes-bridge-2", "wes"]}, "not for this server"),
        ({"aud": {"wes-bridge": 1}}, "aud"),
        ({"cnf": {"jkt": "x"}}, "bound"),
    ],
)
def test_claims_that_are_not(issuer: TestIssuer, door: Door, claims: dict[str, Any], words: str) -> None:
    assert words in str(door.refusal(issuer.token(**claims)))


def test_a_token_of_another_issuer_is_not_ours(issuer: TestIssuer, door: Door) -> None:
    for other in ("https://evil.example.org", issuer.url + "/", issuer.url.upper(), "", 3, None):
        assert door.ask(issuer.token(iss=other)) is None
    evil = TestIssuer()
    evil.keys = [new_key("RS256", "one")]
    try:
        assert door.ask(evil.token()) is None
        door.refusal(evil.token(iss=issuer.url))
        door.refusal(evil.token(iss=issuer.url, head={"kid": None}))
    finally:
        evil.close()
    assert not evil.fetches


def test_forgeries(issuer: TestIssuer, door: Door) -> None:
    good = issuer.token()
    head, body, signature = good.split(".")
    public = issuer.keys[0].public_key
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    evil = new_key("RS256", "one")
    bob = b64(json.dumps(issuer.claims(sub="bob")).encode())
    forged = {
        "no signature": f"{head}.{body}.",
        "another's claims": f"{head}.{bob}.{signature}",
        "signed by somebody else": issuer.token(evil),
        "the public key as a secret (PEM)": issuer.forged_with_hmac(pem),
        "the public key as a secret (PEM, cut)": issuer.forged_with_hmac(pem.strip()),
        "the public key as a secret (DER)": issuer.forged_with_hmac(der),
        "an empty secret": issuer.forged_with_hmac(b""),
        "its own key in the header": issuer.token(evil, {"jwk": evil.as_dict(private=False)}),
        "a key elsewhere (jku)": issuer.token(evil, {"jku": issuer.url + "/evil"}),
        "a certificate elsewhere (x5u)": issuer.token(evil, {"x5u": issuer.url + "/evil"}),
        "a certificate of its own (x5c)": issuer.token(evil, {"x5c": ["MIIB"]}),
        "something critical": issuer.token(head={"crit": ["exp"], "exp": 1}),
        "a payload that is not encoded": issuer.token(head={"b64": False, "crit": ["b64"]}),
        "for another purpose": issuer.token(head={"typ": "logout+jwt"}),
        "a type that is none": issuer.token(head={"typ": ["JWT"]}),
    }
    for name in ("none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RSA1_5", "ES256", "EdDSA", "PS256"):
        content = unsigned({"alg": name, "typ": "JWT", "kid": "one"}, issuer.claims())
        forged |= {f"alg {name}": f"{content}.", f"alg {name}, signed": f"{content}.{signature}"}
    for odd in (None, 3, ["RS256"], {"RS256": 1}):
        content = unsigned({"alg": odd, "kid": "one"}, issuer.claims())
        forged[f"alg {odd!r}"] = f"{content}.{signature}"
    for text in (
        "a.b.c",
        "..",
        "....",
        "e30.e30.",
        "e30.W10.e30",
        b64(b"[]") + ".e30.x",
        "x" * 20_000 + "..",
        "ä.b.c",
    ):
        forged[text[:20]] = text
    deep = b64(b'{"iss":' + b"[" * 8000)
    forged["deep"] = f"{head}.{deep}.{signature}"
    for what, token in forged.items():
        try:
            assert door.ask(token) is None, what
        except RefusedError as error:
            assert not token or token not in str(error), what
    assert "/evil" not in issuer.fetches
    assert door.ask(good) is not None


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "one' OR '1'='1",
        "one\x00",
        "|id",
        "http://evil/",
        "x" * 257,
        1,
        ["one"],
        {"one": 1},
        "ONE",
        "",
    ],
)
def test_names_of_keys_are_only_looked_up(issuer: TestIssuer, door: Door, name: Any) -> None:
    content = unsigned({"alg": "RS256", "kid": name}, issuer.claims())
    door.refusal(f"{content}.{issuer.token().rpartition('.')[2]}")
    assert set(issuer.fetches) <= {"/.well-known/openid-configuration", "/jwks"}


def test_a_key_is_for_one_algorithm_and_for_signatures(issuer: TestIssuer, door: Door) -> None:
    ps = new_key("PS256", "ps")
    small = b64((12345).to_bytes(128))
    issuer.keys.append(ps)
    issuer.extra += [
        {"kty": "oct", "kid": "secret", "k": b64(b"secret"), "alg": "HS256"},
        {"kty": "RSA", "kid": "weak", "n": small, "e": "AQAB"},
        {"kty": "RSA", "kid": "broken", "n": 3},
        {"kty": "new-kind", "kid": "future"},
        {**issuer.keys[0].as_dict(private=False), "kid": "enc", "use": "enc"},
    ]
    assert door.ask(issuer.token(ps)) is not None
    door.refusal(issuer.forged_with_hmac(b"secret", kid="secret"))
    for kid in ("weak", "broken", "future", "enc"):
        content = unsigned({"alg": "RS256", "kid": kid}, issuer.claims())
        door.refusal(f"{content}.{issuer.token().rpartition('.')[2]}")


def test_keys_are_fetched_once_and_tokens_checked_once(issuer: TestIssuer, door: Door) -> None:
    for _ in range(20):
        assert door.ask(issuer.token()) is not None
    assert issuer.fetches == ["/.well-known/openid-configuration", "/jwks"]
    token = issuer.token()
    assert door.ask(token) is door.ask(token)
    door.now = 700
    assert "expired" in str(door.refusal(token))  # also where it was found good before


def test_keys_are_rotated(issuer: TestIssuer, door: Door) -> None:
    old = issuer.keys[0]
    known = issuer.token(old)
    assert door.ask(known) is not None
    issuer.keys = [new_key("RS256", "two"), old]
    door.now += issuer_module.AGAIN + 1
    assert door.ask(issuer.token()) is not None
    assert door.ask(issuer.token(old)) is not None
    issuer.keys = [issuer.keys[0]]
    door.now += issuer_module.FRESH + 1
    assert door.ask(issuer.token()) is not None  # this look finds the keys old, and fetches them behind it
    door.runner.run(asyncio.wait_for(door.oidc._issuer._fetching, 30))  # type: ignore[arg-type]
    door.refusal(issuer.token(old))
    door.refusal(known)  # what was found good before, too


def test_names_that_nobody_knows_cost_the_issuer_little(issuer: TestIssuer, door: Door) -> None:
    assert door.ask(issuer.token()) is not None
    before = len(issuer.fetches)
    door.now += issuer_module.AGAIN + 1
    for number in range(50):
        content = unsigned({"alg": "RS256", "kid": f"made-up-{number}"}, issuer.claims())
        door.refusal(f"{content}.AAAA")
    assert len(issuer.fetches) - before == 2


def test_an_issuer_that_is_away(issuer: TestIssuer, door: Door) -> None:
    assert door.ask(issuer.token()) is not None
    issuer.broken = True
    door.now += 3600  # its keys go on
    assert door.ask(issuer.token(exp=int(time.time()) + 10_000)) is not None
    door.runner.run(asyncio.wait_for(door.oidc._issuer._fetching, 30))  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match="does not answer"):
        door.ask(issuer.token(new_key("RS256", "unheard-of"), exp=int(time.time()) + 10_000))
    door.now += issuer_module.STALE
    with pytest.raises(UnavailableError, match="does not answer"):
        door.ask(issuer.token(exp=int(time.time()) + 10**6))
    issuer.broken = False
    door.now += issuer_module.AGAIN + 1
    assert door.ask(issuer.token(exp=int(time.time()) + 10**6)) is not None


def test_an_issuer_that_was_never_there(issuer: TestIssuer, door: Door) -> None:
    issuer.broken = True
    with pytest.raises(UnavailableError, match="500"):
        door.ask(issuer.token())
    issuer.broken = False
    door.now += issuer_module.AGAIN + 1
    assert door.ask(issuer.token()) is not None


def test_an_issuer_that_calls_itself_another(issuer: TestIssuer, door: Door) -> None:
    issuer.claims_to_be = "https://evil.example.org"
    with pytest.raises(UnavailableError, match=r"evil\.example\.org"):
        door.ask(issuer.token())


def test_scopes_and_groups_are_asked_for(issuer: TestIssuer) -> None:
    door = Door(issuer, scopes=["wes-service"], groups=["src/production"], groups_claim="wlcg.groups")
    groups = {"wlcg.groups": ["src/production"]}
    assert door.ask(issuer.token(scope="openid wes-service", **groups)) is not None
    assert door.ask(issuer.token(scp=["wes-service"], **groups)) is not None
    for claims in ({"scope": "openid", **groups}, {"scope": "wes-service2", **groups}, groups):
        refused = door.refusal(issuer.token(**claims))
        assert (refused.status, refused.error) == (403, "insufficient_scope")
        assert "wes-service" in str(refused)
    refused = door.refusal(issuer.token(scope="wes-service", groups=["src/production"]))
    assert refused.status == 403 and "src/production" in str(refused)
    door.close()


def test_opaque_tokens_are_asked_about(issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "client-secret")
    introspection = {"client_id": "wes", "secret": {"env": "CLIENT_SECRET"}}
    door = Door(issuer, introspection=introspection)
    issuer.opaque = {
        "good": {"active": True, **issuer.claims(sub="bob")},
        "for-others": {"active": True, **issuer.claims(aud="x")},
        "old": {"active": True, **issuer.claims(exp=1)},
        "says-little": {"active": True, "sub": "bob"},
        "odd": {"active": "perhaps"},
        "elsewhere": {"active": True, **issuer.claims(iss="https://evil.example.org")},
    }
    found = door.ask("good")
    assert found is not None and found.name == f"{issuer.url}#bob"
    assert door.ask("unknown") is None
    for token in ("for-others", "old", "says-little", "elsewhere"):
        door.refusal(token)
    with pytest.raises(UnavailableError):
        door.ask("odd")
    issuer.opaque["good"] = {"active": False}  # it was revoked
    door.now += 31
    assert door.ask("good") is None
    door.close()
    plain = Door(issuer)
    assert plain.ask("good") is None
    plain.close()


@pytest.mark.parametrize(
    "issuer_url", ["http://iam.example.org", "https://u:p@iam.example.org", "ftp://x", "https://x/?a=b", "x"]
)
def test_issuers_that_cannot_be_believed_are_not_configured(issuer_url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        OidcConfig(issuer=issuer_url, audience=["x"])


@pytest.mark.parametrize("name", ["none", "HS256"])
def test_no_secret_can_be_a_key(name: str) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        OidcConfig.model_validate({"issuer": "https://x", "audience": ["x"], "algorithms": [name]})
