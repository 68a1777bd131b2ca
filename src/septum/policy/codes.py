"""The diagnostic codes: one title and one paragraph each. docs/codes.md is made from this table."""

from __future__ import annotations

SYNTAX = "SEP101"
DUPLICATE_KEY = "SEP102"
ANCHOR = "SEP103"
TAG = "SEP104"
SEVERAL_DOCUMENTS = "SEP105"
NOT_TEXT = "SEP106"
TOO_DEEP = "SEP107"
TOO_LARGE = "SEP108"
UNREADABLE = "SEP109"

UNKNOWN_KEY = "SEP201"
MISSING_KEY = "SEP202"
UNKNOWN_NAME = "SEP203"
WRONG_SHAPE = "SEP204"
WRONG_VALUE = "SEP205"
DUPLICATE_NAME = "SEP206"
LATER = "SEP207"
NO_MESH = "SEP208"
IGNORED_FILE = "SEP209"

PATTERN = "SEP301"
PROTOCOL = "SEP302"
NOTHING_ALLOWED = "SEP303"
REPEATED = "SEP304"

ADDRESS_CLASH = "SEP401"
AUTHORITY_CLASH = "SEP402"
NOT_A_TARGET = "SEP403"
EMPTY_SEGMENT = "SEP404"

CODES: dict[str, tuple[str, str]] = {
    SYNTAX: ("not YAML", "The file cannot be read as YAML from the marked place on. Nothing of it is used."),
    DUPLICATE_KEY: (
        "a key stands twice",
        "YAML readers commonly keep the last of two equal keys and drop the first in silence. Septum refuses both: remove one.",
    ),
    ANCHOR: (
        "anchors and aliases",
        "A rule should be read where it stands, so anchors, aliases and merge keys are not part of the language.",
    ),
    TAG: ("tags", "Tags such as `!!str` are not part of the language. Quote the word if it must be text."),
    SEVERAL_DOCUMENTS: ("several documents", "One file holds one document; what follows a `---` would be easy to overlook."),
    NOT_TEXT: ("not text", "Policy files are UTF-8 without control characters."),
    TOO_DEEP: ("nested too deep", "No part of the language nests this deep; the file is most likely not a policy."),
    TOO_LARGE: ("too large", "A policy file is written and read by people. Split it: every file below `policy/` is read."),
    UNREADABLE: (
        "cannot be read",
        "The file exists but cannot be read. A policy with a part missing would mean something else, so nothing is used.",
    ),
    UNKNOWN_KEY: (
        "unknown key",
        "A key that Septum does not know would have no effect, and its author would believe that it has. It is refused.",
    ),
    MISSING_KEY: ("missing key", "Something that has no safe default is not there."),
    UNKNOWN_NAME: ("unknown name", "A rule or a setting names a workload or a segment that `septum.yaml` does not have."),
    WRONG_SHAPE: ("wrong shape", "A mapping, a list or a single value stands where another of them is expected."),
    WRONG_VALUE: ("wrong value", "The value is of the right shape but has no meaning here."),
    DUPLICATE_NAME: ("name used twice", "Names of workloads, segments and rules are unique, so that a record names one thing."),
    LATER: (
        "not in this version",
        "This part of the language comes in a later version. It is refused, because a condition that is ignored widens what a "
        "rule allows.",
    ),
    NO_MESH: ("no mesh here", "A mesh is a directory with a `septum.yaml`. `septum init` writes one."),
    IGNORED_FILE: (
        "file that would be ignored",
        "Policy files end in `.yaml`. A file beside them that looks like one would have no effect, so it is refused.",
    ),
    PATTERN: (
        "not a pattern",
        "Patterns work on whole path segments: a literal, `{name}` for exactly one segment, and a final `/**`. Requests are "
        "normalised before they are matched, so a pattern that no normalised path can match is refused.",
    ),
    PROTOCOL: (
        "operation of another protocol",
        "`http:` opens operations on workloads that speak HTTP, `grpc:` on those that speak gRPC, and a rule with neither "
        "opens TCP sessions. A rule that names operations its target does not have would never match.",
    ),
    NOTHING_ALLOWED: (
        "nothing is allowed",
        "A rule says what it allows. To allow every operation, write so: `http: [\"* /**\"]` or `grpc: [\"*\"]`.",
    ),
    REPEATED: ("written twice", "The same entry stands twice. It does no harm, and one of the two is most likely a slip."),
    ADDRESS_CLASH: ("address used twice", "Two things cannot listen at one address."),
    AUTHORITY_CLASH: (
        "ambiguous host name",
        "Callers reach a workload by its name, by `name.trust-domain` and by its address. Two workloads would answer to one.",
    ),
    NOT_A_TARGET: ("not a TCP workload", "`dials` opens a raw TCP address; HTTP and gRPC workloads are called through `outbound`."),
    EMPTY_SEGMENT: ("empty segment", "No workload is in the segment, so rules about it mean nothing yet."),
}
