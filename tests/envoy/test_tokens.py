"""End users against a real Envoy: only workload and token together pass, and the rule that is named is `decide`'s."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from select import select
from typing import Any

import pytest
from proxy import free_port, wait_for
from token_lab import Asked, Case, Lab, agree, asking, bearer, policy_of, rule, token_lab
from tokens import (
    ABSENT,
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    Authority,
    KeyServer,
    Signer,
    encoded,
    jwks,
    unsigned,
    valid_claims,
    with_another_payload,
    with_public_key_as_secret,
)

from septum.envoy.jwt import SKEW
from septum.model.claims import AnyOf, Contains, Equals, Scope, Test
from septum.model.mesh import Issuer

SIGNERS = {algorithm: Signer.new(algorithm, f"key-{algorithm}") for algorithm in ALGORITHMS}
STRANGER = {algorithm: Signer.new(algorithm, f"key-{algorithm}") for algorithm in ALGORITHMS}  # another key, same kid
PARTNER_ISSUER = "https://login.partner.test"
PARTNER = Signer.new("ES256", "key-ES256")  # another issuer may use the same kid
# Tokens of one issuer do not pass for those of another with the same claims.
ISSUERS = (
    Issuer("lab", ISSUER, (AUDIENCE, "lab-admin"), jwks=jwks(*SIGNERS.values())),
    Issuer("partner", PARTNER_ISSUER, (AUDIENCE,), jwks=jwks(PARTNER)),
)

SUPPORT = asking(("groups", Contains("support")))
SUPPORT_CLAIMS = {"groups": ["sales", "support"]}
Sent = tuple[tuple[str, ...], dict[str, Any]]  # authorization headers, and the claims that they amount to


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with token_lab(*ISSUERS) as lab:
        yield lab


def _tokens(algorithm: str) -> dict[str, Sent]:
    """Every kind of token, by what is right or wrong with it."""
    signer, now = SIGNERS[algorithm], int(time.time())

    def refused(**claims: Any) -> Sent:
        return bearer(signer.token(SUPPORT_CLAIMS | claims)), {}

    good = signer.token(SUPPORT_CLAIMS)
    head, payload, signature = good.split(".")
    flipped = signature[:-8] + ("A" if signature[-8] != "A" else "B") + signature[-7:]
    claims = valid_claims(SUPPORT_CLAIMS)
    partner = {"iss": PARTNER_ISSUER} | SUPPORT_CLAIMS
    no_kid = signer.token(SUPPORT_CLAIMS, headers={"kid": ""})
    return {
        "good": (bearer(good), claims),
        "good, with one of several audiences": (
            bearer(signer.token(SUPPORT_CLAIMS | {"aud": ["x", "lab-admin"]})),
            claims | {"aud": ["x", "lab-admin"]},
        ),
        "good, without kid": (bearer(no_kid), claims),
        "expired within the clocks' difference": (
            bearer(signer.token(SUPPORT_CLAIMS | {"exp": now - 30})),
            claims | {"exp": now - 30},
        ),
        "good, of an issuer that the rule does not name": (
            bearer(PARTNER.token(partner)),
            valid_claims(partner),
        ),
        "good, without the group": (bearer(signer.token({"groups": ["sales"]})), claims | {"groups": ["sales"]}),
        "missing": ((), {}),
        "expired": refused(exp=now - 120),
        "without expiry": refused(exp=ABSENT),
        "not yet valid": refused(nbf=now + 120),
        "wrong audience": refused(aud="elsewhere"),
        "no audience": refused(aud=ABSENT),
        "unknown issuer": refused(iss="https://login.evil.test"),
        "no issuer": refused(iss=ABSENT),
        "signed by one issuer as another": (bearer(PARTNER.token(SUPPORT_CLAIMS)), {}),
        "alg none": (bearer(unsigned(SUPPORT_CLAIMS)), {}),
        "alg none, with a signature": (
            bearer(f"{encoded({'alg': 'none', 'kid': signer.kid})}.{payload}.{signature}"),
            {},
        ),
        "the public key as a secret": (bearer(with_public_key_as_secret(signer, SUPPORT_CLAIMS)), {}),
        "unknown kid": (bearer(signer.token(SUPPORT_CLAIMS, headers={"kid": "another"})), {}),
        "another key's kid": (
            bearer(signer.token(SUPPORT_CLAIMS, headers={"kid": SIGNERS[_other(algorithm)].kid})),
            {},
        ),
        "another key": (bearer(STRANGER[algorithm].token(SUPPORT_CLAIMS)), {}),
        "bad signature": (bearer(f"{head}.{payload}.{flipped}"), {}),
        "no signature": (bearer(f"{head}.{payload}."), {}),
        "another payload": (
            bearer(with_another_payload(signer.token({"groups": ["sales"]}), SUPPORT_CLAIMS)),
            {},
        ),
        "no token at all": (("Bearer ",), {}),
        "not a token": (("Bearer abc",), {}),
        "another scheme": ((f"Basic {good}",), {}),
        "a token without a scheme": ((good,), {}),
        "behind another scheme": ((f"Basic abc, Bearer {good}",), {}),
        "behind another word": ((f"x Bearer {good}",), {}),
        "followed by another word": ((f"Bearer {good} x",), {}),
        "two headers, both good": ((*bearer(good), *bearer(signer.token(SUPPORT_CLAIMS | {"sub": "bob"}))), {}),
        "two headers, the first good": ((*bearer(good), "Bearer abc"), {}),
        "two headers, the last good": (("Basic abc", *bearer(good)), {}),
        "two headers, of two issuers": ((*bearer(PARTNER.token(partner)), *bearer(good)), {}),
        "two in one header": ((f"Bearer {good},Bearer {good}",), {}),
    }


def _other(algorithm: str) -> str:
    return ALGORITHMS[ALGORITHMS.index(algorithm) - 1]


# A rule that asks, one that does not, and paths on which both stand, in either order and behind regexes and prefixes.
RULES = (
    rule("a-asks", "GET /asks", SUPPORT),
    rule("b-open", "GET /open"),
    rule("c-asks-first", "GET /both", SUPPORT),
    rule("d-open-last", "GET /both"),
    rule("e-open-first", "GET /also"),
    rule("f-asks-last", "GET /also", SUPPORT),
    rule("g-asks-of-one", "GET /orders/{id}", SUPPORT),
    rule("h-asks-partner", "GET /orders/{id}", asking(iss=PARTNER_ISSUER)),
    rule("i-asks-below", "GET /below/**", SUPPORT),
    rule("j-open-below", "GET /below/{x}/y"),
    rule("k-other", "GET /asks", callers=("other",), when=asking(iss=PARTNER_ISSUER)),
)
GRPC_RULES = (
    rule("a-asks", "p.S/Asks", SUPPORT, "rpc"),
    rule("b-open", "p.S/Open", None, "rpc"),
    rule("c-asks-first", "p.S/*", asking(iss=PARTNER_ISSUER), "rpc"),
    rule("d-open-last", "p.S/Both", None, "rpc"),
)
PATHS = ("/asks", "/open", "/both?x=1", "/also", "/orders/42", "/below", "/below/x/y", "/below/x?y", "/none")
GRPC_PATHS = ("/p.S/Asks", "/p.S/Open", "/p.S/Both", "/p.S/None")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("protocol", ["h1", "h2", "grpc"])
def test_workload_and_token_decide_together(lab: Lab, algorithm: str, protocol: str) -> None:
    target, rules, paths = ("rpc", GRPC_RULES, GRPC_PATHS) if protocol == "grpc" else ("api", RULES, PATHS)
    policy = policy_of(lab.mesh, *rules)
    lab.proxy.hold(policy)
    cases = [
        Case(f"{algorithm}, {kind}", Asked(caller, target, path, authorization), claims)
        for kind, (authorization, claims) in _tokens(algorithm).items()
        for caller in ("web", "other")
        for path in paths
    ]
    assert len(cases) // 10 < agree(lab, policy, cases, protocol) < len(cases) // 2  # or the table says little


# Tests of a claim, by the path of the rule that asks, and values of which each is tried against all.
TESTS: dict[str, Test] = {
    "text": Equals("support"),
    "one-as-text": Equals("1"),
    "one": Equals(1),
    "zero": Equals(0),
    "large": Equals(2**53 - 1),
    "minus": Equals(-7),
    "true": Equals(True),
    "false": Equals(False),
    "empty": Equals(""),
    "special": Equals('é "a\\b" \u2028 .*'),
    "any": AnyOf(("support", 2, False)),
    "any-of-one": AnyOf(("support",)),
    "holds-text": Contains("support"),
    "holds-one": Contains(1),
    "holds-true": Contains(True),
    "scope": Scope("orders:read"),
    "scope-regex": Scope("a.c"),
}
VALUES: tuple[Any, ...] = (
    "support", "Support", "support ", "supporter", "1", "true", "", "null", 'é "a\\b" \u2028 .*', "orders:read",
    1, 1.0, 1.5, 0, -0.0, 2, -7, 2**53 - 1, 1e300, True, False, None,
    [], ["support"], ["sales", "support"], ["supporter"], [["support"]], [1], ["1"], [True], [None], [{"support": 1}],
    {}, {"support": "support"}, {"0": "support"},
    "orders:readx", "xorders:read", "orders:read orders:write", "orders:write orders:read", "a orders:read b",
    "a  orders:read  b", "orders:read\tb", "orders:read,b", "a\norders:read", "a\n orders:read b", " orders:read",
    "orders:read ", "orders", "orders: read", ["orders:read"], "abc", "a.c", "a.c abc", "abc x",
)  # fmt: skip


@pytest.mark.parametrize("name", TESTS)
def test_a_claim_passes_by_its_type_and_value(lab: Lab, name: str) -> None:
    policy = policy_of(lab.mesh, rule("asks", "GET /x", asking(("c", TESTS[name]))))
    lab.proxy.hold(policy)
    cases = [_with_claims({"c": value}) for value in VALUES]
    assert 0 < agree(lab, policy, cases) < len(VALUES) // 2


def _with_claims(claims: dict[str, Any]) -> Case:
    call = Asked("web", "api", "/x", bearer(SIGNERS["ES256"].token(claims)))
    return Case(str(claims), call, json.loads(json.dumps(valid_claims(claims))))


def test_a_claim_is_named_as_a_whole(lab: Lab) -> None:
    when = asking(("https://lab.test/roles.x", Contains("support")), ("a.b", Equals("support")))
    policy = policy_of(lab.mesh, rule("asks", "GET /x", when))
    lab.proxy.hold(policy)
    given: tuple[dict[str, Any], ...] = (
        {"https://lab.test/roles.x": ["support"], "a.b": "support"},
        {"https://lab.test/roles.x": ["support"], "a": {"b": "support"}},
        {"https://lab.test/roles.x": ["support"]},
        {"a.b": "support"},
        {"A.B": "support", "https://lab.test/roles.x": ["support"]},
    )
    assert agree(lab, policy, map(_with_claims, given)) == 1


def test_a_token_elsewhere_is_no_token(lab: Lab) -> None:
    token = SIGNERS["ES256"].token(SUPPORT_CLAIMS)
    policy = policy_of(lab.mesh, rule("asks", "GET /x", SUPPORT))
    lab.proxy.hold(policy)
    elsewhere = (
        ("x-authorization", f"Bearer {token}"),
        ("proxy-authorization", f"Bearer {token}"),
        ("cookie", f"access_token={token}"),
        ("x-goog-iap-jwt-assertion", token),
    )
    calls = [Asked("web", "api", "/x", more=(header,)) for header in elsewhere]
    calls.append(Asked("web", "api", f"/x?access_token={token}"))
    calls.append(Asked("web", "api", f"/x?access_token={token}", bearer(token[:-8] + "AAAAAAAA")))
    assert agree(lab, policy, (Case("elsewhere", call, {}) for call in calls)) == 0
    assert lab.ask(Asked("web", "api", "/x", bearer(token))).passed


def test_what_a_token_would_not_open_on_an_observed_target_is_noted(lab: Lab) -> None:
    policy = policy_of(lab.mesh, rule("asks", "GET /x", SUPPORT, "seen"), rule("open", "GET /y", None, "seen"))
    lab.proxy.hold(policy)
    good, poor = (SIGNERS["EdDSA"].token({"groups": groups}) for groups in (["support"], ["sales"]))
    for path, authorization, noted in (
        ("/x", bearer(good), "asks"),
        ("/x", bearer(poor), "septum.observe"),
        ("/x", (), "septum.observe"),
        ("/y", (), "open"),
    ):
        answered = lab.ask(Asked("web", "seen", path, authorization))
        record = lab.proxy.record(answered.request_id)
        assert answered.passed, record
        assert record["ep"] == noted, record


def test_a_target_without_case_and_its_health_path(lab: Lab) -> None:
    rules = (
        rule("all", "GET /**", SUPPORT, "folding"),
        rule("health", "GET /Healthz", asking(("groups", Contains("probes"))), "folding"),
        rule("open", "GET /Open", None, "folding"),
    )
    policy = policy_of(lab.mesh, *rules)
    lab.proxy.hold(policy)
    cases = [
        Case(str(groups), Asked("web", "folding", path, bearer(token)), valid_claims({"groups": groups}))
        for groups in (["support"], ["probes"], ["probes", "support"], [])
        for token in [SIGNERS["ES256"].token({"groups": groups})]
        for path in ("/healthz", "/HEALTHZ", "/open", "/x")
    ]
    assert agree(lab, policy, cases) == 2 + 3 + 4 + 1


def test_a_token_counts_inside_a_tunnel(lab: Lab) -> None:
    policy = policy_of(lab.mesh, rule("asks", "GET /x", SUPPORT))
    lab.proxy.hold(policy)
    for authorization, passes in ((bearer(SIGNERS["RS256"].token(SUPPORT_CLAIMS)), True), ((), False)):
        with lab.connect("web", "api:80") as (status, tunnel):
            assert status == 200
            lines = ["GET /x HTTP/1.1", "host: api", *(f"authorization: {value}" for value in authorization), "", ""]
            tunnel.write("\r\n".join(lines).encode())
            tunnel.flush()
            assert (b" 200 " in tunnel.readline()) == passes


def test_a_tcp_session_may_ask_for_a_token(lab: Lab) -> None:
    policy = policy_of(
        lab.mesh, rule("asks", "connect", SUPPORT, "store"), rule("open", "connect", None, "store", ("other",))
    )
    lab.proxy.hold(policy)
    authority = f"store:{lab.mesh.workloads['store'].at.port}"
    good = bearer(SIGNERS["RS256"].token(SUPPORT_CLAIMS))
    for caller, authorization, passes in (("web", good, True), ("web", (), False), ("other", (), True)):
        with lab.connect(caller, authority, *authorization) as (status, session):
            assert status == (200 if passes else 403)
            assert not passes or session.readline() == b"HELLO\r\n"


OPEN = (
    rule("web-api", "GET /x"),
    rule("other-api", "GET /x", callers=("other",)),
    rule("web-rpc", "p.S/M", None, "rpc"),
    rule("web-store", "connect", None, "store"),
    rule("web-seen", "GET /x", None, "seen"),
)
EVERYTHING = {
    *(("web", target) for target in ("api", "rpc", "store", "seen", "seen-store")),
    *(("other", target) for target in ("api", "seen", "seen-store")),
}
# Who is in quarantine, one policy after another, as it is entered and left.
QUARANTINES = (
    frozenset[str](),
    frozenset({"web"}),
    frozenset({"web", "other"}),
    frozenset({"api", "seen"}),
    frozenset({"store", "rpc", "seen-store"}),
    frozenset({"other", "store"}),
    frozenset[str](),
)


def test_quarantine_takes_all_allows_away_in_and_out_whatever_the_mode(lab: Lab) -> None:
    for quarantined in QUARANTINES:
        policy = policy_of(lab.mesh, *OPEN, quarantined=quarantined)
        lab.proxy.hold(policy)
        found = set()
        for caller in ("web", "other"):
            for target, path, protocol in (("api", "/x", "h1"), ("seen", "/x", "h2"), ("rpc", "/p.S/M", "grpc")):
                answered = lab.ask(Asked(caller, target, path), protocol)
                record = lab.proxy.record(answered.request_id)
                shut = (caller, target) in EVERYTHING and bool({caller, target} & quarantined)
                assert (record["ep"] == "septum.quarantine") == (shut or target in quarantined), record
                found |= {(caller, target)} if answered.passed else set()
            for target in ("store", "seen-store"):
                with lab.connect(caller, f"{target}:{lab.mesh.workloads[target].at.port}") as (status, _):
                    found |= {(caller, target)} if status == 200 else set()
        assert found == {call for call in EVERYTHING if not quarantined.intersection(call)}, quarantined


# Keys by URL.


def _remote(port: int, scheme: str = "http", host: str = "127.0.0.1") -> Issuer:
    return Issuer("lab", ISSUER, (AUDIENCE,), jwks_url=f"{scheme}://{host}:{port}/keys.json")


def _passes(lab: Lab, token: str) -> bool:
    return lab.ask(Asked("web", "api", "/asks", bearer(token))).passed


REMOTE_RULES = (rule("asks", "GET /asks", SUPPORT), rule("open", "GET /open"))


def test_keys_rotate_while_the_proxy_runs() -> None:
    old, new = Signer.new("RS256", "old"), Signer.new("ES256", "new")
    keys = KeyServer(jwks(old))
    with ExitStack() as serving, token_lab(_remote(serving.enter_context(keys.running())), keys_kept=1.0) as lab:
        lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
        assert _passes(lab, old.token(SUPPORT_CLAIMS))
        assert not _passes(lab, new.token(SUPPORT_CLAIMS))
        keys.keys = jwks(old, new)
        wait_for(lambda: _passes(lab, new.token(SUPPORT_CLAIMS)), "a token by the new key")
        assert _passes(lab, old.token(SUPPORT_CLAIMS))
        keys.keys = jwks(new)
        wait_for(lambda: not _passes(lab, old.token({**SUPPORT_CLAIMS, "sub": "unseen"})), "the end of the old key")
        assert _passes(lab, new.token(SUPPORT_CLAIMS))
        serving.close()
        wait_for(lambda: _failed_fetches(lab), "that keys are asked for in vain")
        assert _passes(lab, new.token({**SUPPORT_CLAIMS, "sub": "unseen"}))  # the last keys are kept


def test_keys_that_cannot_be_had_yet_are_no_claims_and_come_by_themselves() -> None:
    signer = Signer.new("EdDSA", "k")
    port = free_port()
    with token_lab(_remote(port)) as lab:
        lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
        token = signer.token(SUPPORT_CLAIMS)
        cases = [Case("no keys", Asked("web", "api", path, bearer(token)), {}) for path in ("/asks", "/open")]
        assert agree(lab, policy_of(lab.mesh, *REMOTE_RULES), cases) == 1
        with KeyServer(jwks(signer)).running(port):
            wait_for(lambda: _passes(lab, token), "keys")


def test_only_requests_with_a_token_wait_for_keys() -> None:
    signer = Signer.new("EdDSA", "k")
    with socket.create_server(("127.0.0.1", 0)) as silent, token_lab(_remote(silent.getsockname()[1])) as lab:
        lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
        with ThreadPoolExecutor(1) as waiting:
            asked = waiting.submit(_passes, lab, signer.token(SUPPORT_CLAIMS))
            wait_for(lambda: select([silent], [], [], 0)[0], "that keys are asked for")
            assert lab.ask(Asked("web", "api", "/open")).passed
            assert not lab.ask(Asked("web", "api", "/asks")).passed
            assert not asked.done()
            assert not asked.result(5)


def test_a_request_waits_for_keys_that_take_a_while() -> None:
    signer = Signer.new("EdDSA", "k")
    with KeyServer(jwks(signer), takes=1.0).running() as port, token_lab(_remote(port)) as lab:
        lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
        assert _passes(lab, signer.token(SUPPORT_CLAIMS))


def test_keys_are_taken_from_the_host_that_its_certificate_names(tmp_path: Path) -> None:
    signer = Signer.new("EdDSA", "k")
    token = signer.token(SUPPORT_CLAIMS)
    authority = Authority(tmp_path / "ca.pem")
    served = {name: KeyServer(jwks(signer), authority.serves(name, tmp_path)) for name in ("localhost", "else.test")}
    with served["localhost"].running() as right, served["else.test"].running() as wrong:
        with token_lab(_remote(right, "https", "localhost"), roots=authority.roots) as lab:
            lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
            wait_for(lambda: _passes(lab, token), "keys over TLS")
        with token_lab(_remote(wrong, "https", "localhost"), roots=authority.roots) as lab:
            lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
            wait_for(lambda: _failed_fetches(lab) > 2, "that keys are asked for again")
            assert not _passes(lab, token)
        with token_lab(_remote(right, "https", "localhost")) as lab:  # no system root vouches for it
            lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
            wait_for(lambda: _failed_fetches(lab) > 2, "that keys are asked for again")
            assert not _passes(lab, token)
    assert served["else.test"].asked == 0


def _failed_fetches(lab: Lab) -> int:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(lab.proxy.directory / "admin.sock"))
        admin.sendall(b"GET /stats?filter=jwks_fetch_failed HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
        lines = admin.makefile("r").read().splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if "jwks_fetch_failed:" in line)


def test_key_sets_of_every_shape() -> None:
    one, same_kid, without_kid, without_alg = (Signer.new(a, "k") for a in ("ES256", "ES256", "RS256", "EdDSA"))
    keys = [signer.jwk() for signer in (one, same_kid, without_kid, without_alg)]
    del keys[2]["kid"], keys[3]["alg"]
    broken = [{"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"}, {"kty": "EC", "crv": "P-256K"}, {"kty": "no"}, {}]
    issuer = Issuer("lab", ISSUER, (AUDIENCE,), jwks=json.dumps({"keys": [*broken, *keys]}))
    with token_lab(issuer) as lab:
        lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
        for signer in (one, same_kid, without_kid, without_alg):
            assert _passes(lab, signer.token(SUPPORT_CLAIMS)), signer
        assert not _passes(lab, Signer.new("ES256", "k").token(SUPPORT_CLAIMS))


def test_a_remembered_token_is_refused_when_it_expires() -> None:
    """Verified tokens are remembered by Envoy, and are looked at again for their time."""
    signer = Signer.new("ES256", "k")
    with token_lab(Issuer("lab", ISSUER, (AUDIENCE,), jwks=jwks(signer))) as lab:
        lab.proxy.hold(policy_of(lab.mesh, *REMOTE_RULES))
        ends = int(time.time()) + 3
        token = signer.token(SUPPORT_CLAIMS | {"exp": ends - SKEW})
        assert _passes(lab, token)
        wait_for(lambda: not _passes(lab, token), "that it expires")
        assert time.time() >= ends
