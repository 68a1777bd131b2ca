"""The shape of the kinds of file, as one declaration: the checker walks it, and the JSON Schema is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Envoy counts what is open in 32 bits.
_MOST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a text has to look like: a regular expression, what a message calls it, and an example or explanation."""

    regex: str
    noun: str
    help: str


@dataclass(frozen=True, slots=True)
class Text:
    """One word. `choices` are all its values, where they are known.

    `or_nothing` allows none at all. `or_zero` says that a bare 0, which other readers take for a number, is a value.
    """

    doc: str = ""
    choices: tuple[str, ...] = ()
    pattern: Pattern | None = None
    example: str = ""
    or_nothing: bool = False
    or_zero: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""

    doc: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `least` to `most`."""

    doc: str = ""
    least: int = 1
    most: int = _MOST


@dataclass(frozen=True, slots=True)
class Value:
    """A text, a whole number, or `true` or `false`: the one place where the type of what is written counts."""

    doc: str = ""


@dataclass(frozen=True, slots=True)
class Data:
    """Whatever a token can hold: a `Value`, or a list or a mapping of such."""

    doc: str = ""


@dataclass(frozen=True, slots=True)
class Many:
    """A list; with `or_one`, a single item may stand for a list of one. `empty` says why it may not be empty, if so."""

    of: Shape
    doc: str = ""
    or_one: bool = False
    empty: str = ""
    of_what: str = "the rule"


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from names that the author chooses, but for those that are `required`."""

    of: Shape
    doc: str = ""
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """A single value, or a mapping with exactly one of the keys of `one_of`; `instead` is for who writes a list."""

    value: Value
    one_of: Keys
    doc: str = ""
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping with these keys and no others; `noun` is what a message calls it."""

    keys: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    doc: str = ""
    noun: str = ""


Shape = Text | Flag | Number | Value | Data | Many | Named | Either | Keys

_NAME = Pattern(
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a name", "lower-case letters, digits and inner dashes, at most 63 characters"
)
_TRUST_DOMAIN = Pattern(
    "[a-z0-9._-]{1,255}",
    "a SPIFFE trust domain",
    "lower-case letters, digits, dots, dashes and underscores (SPIFFE-ID, 2.1)",
)
# Six digits of hours fit what Envoy's durations hold.
_DURATION = Text(
    "a duration: `250ms`, `5s`, `2m`, `1h`, or `0` for no limit",
    pattern=Pattern(
        r"0|[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)", "a duration", "such as 250ms, 5s, 2m, 1h, or 0 for no limit"
    ),
    example="5s",
    or_zero=True,
)
_ADDRESS = Text("IP:PORT", example="127.0.0.1:9101")
_MODES = ("observe", "enforce")
_RULE_NAME = Pattern(
    "[A-Za-z0-9][A-Za-z0-9._-]*", "a rule's name", "letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
)

WORKLOAD = Keys(
    {
        "segment": Text("the one segment the workload is in"),
        "at": Text("where the workload listens, as IP:PORT", example="127.0.0.1:9101"),
        "protocol": Text("what it speaks; declared, never guessed", choices=("http", "grpc", "tcp")),
        "health": Text(
            "a path (for gRPC: `grpc`) that the node probes; callers need a rule that spells it out", example="/healthz"
        ),
        "websocket": Flag("whether WebSocket upgrades reach it; off by default"),
        "path_parameters": Flag("whether it takes `;` in paths; otherwise such requests are denied"),
        "ignore_case": Flag("whether it treats paths that differ in case alike; patterns then do so too"),
        "mode": Text("its own mode, over that of its segment", choices=_MODES),
        "node": Text("the node that fronts it, in a mesh that lists nodes"),
        "outbound": Text("where its own outbound listener opens, as IP:PORT; chosen and kept by Septum otherwise"),
        "dials": Named(_ADDRESS, "TCP workload or place outside → the raw TCP address at which this workload finds it"),
        "timeouts": Keys(
            {"connect": _DURATION, "request": _DURATION, "idle": _DURATION}, doc="time limits towards the workload"
        ),
        "limits": Keys(
            {
                "connections": Number("open connections"),
                "pending": Number("waiting requests"),
                "requests": Number("open requests"),
            },
            doc="what one proxy may hold open towards the workload",
        ),
    },
    required=("segment", "at", "protocol"),
    doc="a service",
)

NODE = Keys(
    {"inbound": Text("where it takes calls from other nodes, as IP:PORT", example="10.0.0.11:7443")},
    required=("inbound",),
    doc="one Envoy and its agent, in front of the workloads that name it",
)

ISSUER = Keys(
    {
        "issuer": Text("the `iss` claim of its tokens", example="https://login.shop.test"),
        "audiences": Many(
            Text("an `aud` claim"),
            "a token is taken only with one of these",
            empty="the list is empty, so no token would be taken",
            of_what="the issuer",
        ),
        "jwks": Text("its public keys (RFC 7517): a file below `files/`, or a URL", example="files/login.json"),
    },
    required=("issuer", "audiences", "jwks"),
    doc="who signs end users' tokens",
)

EXTERNAL = Keys(
    {
        "host": Text("a DNS name or an IP address", example="api.partner.test"),
        "port": Number("80 for http, 443 for TLS; needed for tcp", most=65535),
        "protocol": Text(
            "http (each request is decided), tls (a session whose SNI is the host) or tcp",
            choices=("http", "tls", "tcp"),
        ),
        "originate_tls": Flag("whether the proxy speaks TLS to it; callers speak plain HTTP to the proxy"),
        "ca": Text(
            "certificates of those who may sign its certificate (PEM, below `files/`); the system's otherwise",
            example="files/partner.pem",
        ),
        "mode": Text("observe or enforce; enforced by default", choices=_MODES),
    },
    required=("host", "protocol"),
    doc="a place outside the mesh",
)

MESH = Keys(
    {
        "septum": Number("the version of the language in which the files are written: 1, also when left out"),
        "mesh": Text("the name of the mesh", pattern=_NAME, example="shop"),
        "trust_domain": Text("the SPIFFE trust domain of its identities", pattern=_TRUST_DOMAIN, example="shop.test"),
        "segments": Named(Text("what the segment is for", or_nothing=True), "segment → what it is for"),
        "workloads": Named(WORKLOAD, "workload → where it is and what it speaks"),
        "enforce": Many(
            Text("a segment"),
            "the segments whose denials are carried out; the others are observed. Left out: all are enforced",
        ),
        "nodes": Named(NODE, "node → where other nodes find it. Left out: one node fronts everything"),
        "issuers": Named(ISSUER, "name → who signs end users' tokens, on which rules may put conditions"),
        "external": Named(EXTERNAL, "name → a place outside that rules may open"),
    },
    required=("mesh", "trust_domain", "segments", "workloads"),
    doc="septum.yaml: what exists",
    noun="the mesh",
)

_VALUE = Value("text, a whole number, `true` or `false`; quote it to make it text")

TEST = Either(
    _VALUE,
    Keys(
        {
            "equals": Value("the claim is this, of the same type"),
            "any_of": Many(
                _VALUE, "the claim is one of these", empty="the list is empty, so no token passes", of_what="the test"
            ),
            "contains": Value("the claim is a list that holds this"),
            "scope": Text(
                "the claim is words between spaces, and this is one of them",
                # RFC 6749, 3.3: what a scope token is made of.
                pattern=Pattern(r"[!#-\[\]-~]+", "one word of a scope", "one word, without spaces and quotes"),
                example="orders:refund",
            ),
        },
        noun="a test",
    ),
    "what a claim has to be",
    instead="where one of several values will do, write {any_of: [...]}",
)

WHEN = Keys(
    {"claims": Named(TEST, "top-level claim of the token → what it has to be; `iss` among them", required=("iss",))},
    required=("claims",),
    doc="what the end user's token has to say",
)

_A_TIME = "2027-01-31T00:00:00Z"
_NO_ONE = "the list is empty, so the guarantee is about nobody"
_NO_OPERATION = "the list is empty, so the guarantee is about nothing"
_THE_GUARANTEE = "the guarantee"
_NOBODY = "the list is empty, so the rule is about nobody"
_NOTHING = "the list is empty, so the rule allows nothing"

RULE = Keys(
    {
        "name": Text("the rule's name, in records and messages; unique in the mesh", pattern=_RULE_NAME),
        "from": Many(Text("a workload, or `segment:NAME`"), "who may call", or_one=True, empty=_NOBODY),
        "to": Many(Text("a workload, a place outside, or `segment:NAME`"), "whom", or_one=True, empty=_NOBODY),
        "http": Many(
            Text("METHODS PATH", example="GET,HEAD /catalog/**"),
            "operations of HTTP workloads",
            or_one=True,
            empty=_NOTHING,
        ),
        "grpc": Many(
            Text("package.Service/Method", example="shop.payments.v1.Payments/Authorize"),
            "methods of gRPC workloads",
            or_one=True,
            empty=_NOTHING,
        ),
        "when": WHEN,
        "from_time": Text("when the rule begins to hold", example=_A_TIME),
        "until": Text("when it stops holding: the proxies see to it by themselves", example=_A_TIME),
        "because": Text("why the rule is there"),
    },
    required=("from", "to"),
    doc="an allow rule; what no rule allows is denied",
    noun="a rule",
)

_STATED: dict[str, Shape] = {
    "from": Many(Text("a workload, or `segment:NAME`"), "callers", or_one=True, empty=_NO_ONE, of_what=_THE_GUARANTEE),
    "to": Many(
        Text("a workload, a place outside, or `segment:NAME`"),
        "targets",
        or_one=True,
        empty=_NO_ONE,
        of_what=_THE_GUARANTEE,
    ),
    "through": Text("`any`: chains of calls through others count too", choices=("any",)),
    "http": Many(
        Text("METHODS PATH", example="* /admin/**"),
        "about these operations of HTTP workloads alone",
        or_one=True,
        empty=_NO_OPERATION,
        of_what=_THE_GUARANTEE,
    ),
    "grpc": Many(
        Text("package.Service/Method", example="shop.payments.v1.Payments/*"),
        "about these methods of gRPC workloads alone",
        or_one=True,
        empty=_NO_OPERATION,
        of_what=_THE_GUARANTEE,
    ),
}


def _statement(doc: str) -> Keys:
    return Keys(_STATED, required=("from", "to"), doc=doc, noun="a statement")


GUARANTEE = Keys(
    {
        "name": Text("what is guaranteed, in words; unique in the mesh"),
        "never": _statement("no call from these to those is allowed"),
        "only": _statement("nobody but these may call those"),
        "always": _statement("each of these may make these calls to each of those, at any time and without a token"),
        "override": Keys(
            {
                "name": Text("what the exception is called, such as a ticket"),
                "because": Text("why the guarantee may be broken"),
                "until": Text("when it has to hold again", example=_A_TIME),
            },
            required=("name", "because", "until"),
            doc="leave to break it for a while",
            noun="an override",
        ),
    },
    doc="a statement that the rules together must keep",
    noun="a guarantee",
)

POLICY = Keys(
    {
        "allow": Many(RULE, "allow rules; there are no others"),
        "guarantees": Many(GUARANTEE, "what the rules must keep; `check`, `plan` and `apply` hold them to it"),
    },
    doc="policy/*.yaml: what may happen",
    noun="a policy file",
)

_THE_TEST = "the test"
_NO_REQUEST = "the list is empty, so the test asks for nothing"

CASE = Keys(
    {
        "name": Text("what is tested, in words"),
        "from": Many(
            Text("a workload, or `segment:NAME` for each of its members"),
            "who asks",
            or_one=True,
            empty=_NO_REQUEST,
            of_what=_THE_TEST,
        ),
        "to": Many(
            Text("a workload, a place outside, or `segment:NAME` for each of its members"),
            "who is asked",
            or_one=True,
            empty=_NO_REQUEST,
            of_what=_THE_TEST,
        ),
        "http": Many(
            Text("METHOD PATH of one request", example="GET /orders/42"),
            "requests to HTTP workloads",
            or_one=True,
            empty=_NO_REQUEST,
            of_what=_THE_TEST,
        ),
        "grpc": Many(
            Text("package.Service/Method", example="shop.payments.v1.Payments/Authorize"),
            "calls of gRPC workloads",
            or_one=True,
            empty=_NO_REQUEST,
            of_what=_THE_TEST,
        ),
        "connect": Flag("a TCP session; goes without saying where the target speaks TCP"),
        "websocket": Flag("whether the request asks for a WebSocket"),
        "claims": Named(
            Data("a claim as the token has it"), "the claims of the end user's valid token", required=("iss",)
        ),
        "at": Text("when it is asked; the moment of the test run if left out", example=_A_TIME),
        "expect": Text("what the policy should decide", choices=("allow", "deny")),
        "by": Text("the rule that should allow it, by its name", example="customers-orders"),
        "because": Text("why it should be so"),
    },
    required=("from", "to", "expect"),
    doc="requests, and what the policy should decide about each of them",
    noun="a test",
)

CASES = Many(CASE, "policy/*_test.yaml: what the policy should decide")
