"""The diagnostic codes: a title and a paragraph each. docs/codes.md is made from this table."""

from __future__ import annotations

from dataclasses import dataclass

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
NO_MESH = "SEP208"
IGNORED_FILE = "SEP209"
MISSING_FILE = "SEP210"
WRONG_FILE = "SEP211"
SECRET = "SEP212"  # noqa: S105 - the code of a finding, not one
LANGUAGE = "SEP213"

PATTERN = "SEP301"
PROTOCOL = "SEP302"
NOTHING_ALLOWED = "SEP303"
REPEATED = "SEP304"
NOT_A_CALLER = "SEP305"
NO_STATEMENT = "SEP306"
OUT_OF_TIME = "SEP307"
NOT_A_REQUEST = "SEP308"

ADDRESS_CLASH = "SEP401"
AUTHORITY_CLASH = "SEP402"
NOT_A_TARGET = "SEP403"
EMPTY_SEGMENT = "SEP404"
OPEN_IDENTITY = "SEP405"
NO_WORKLOAD = "SEP406"
NOT_PLACED = "SEP407"
PLAIN_TEXT = "SEP408"

BROKEN_GUARANTEE = "SEP501"
OVERRIDDEN = "SEP502"
NOT_CARRIED_OUT = "SEP503"

SHADOWED = "SEP601"
TWIN = "SEP602"
COVERED = "SEP603"
TOO_WIDE = "SEP604"
NOBODY_YET = "SEP605"
NEEDLESS_GRANT = "SEP606"
ENDED = "SEP607"
TO_ITSELF = "SEP608"
UNUSED_ISSUER = "SEP609"
IDLE_IGNORE = "SEP610"

NEWLY_ALLOWED = "SEP701"
NEWLY_DENIED = "SEP702"
PASSES_OTHERWISE = "SEP703"
DENIED_ON_RECORD = "SEP704"


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means, in one line and in one paragraph."""

    title: str
    text: str


CODES: dict[str, Code] = {
    SYNTAX: Code("not YAML", "The file cannot be read as YAML from the marked place on. Nothing of it is used."),
    DUPLICATE_KEY: Code(
        "a key stands twice",
        "YAML readers commonly keep the last of two equal keys and drop the first in silence. Septum refuses both: "
        "remove one.",
    ),
    ANCHOR: Code(
        "anchors and aliases",
        "A rule should be read where it stands, so anchors, aliases and merge keys are not part of the language. Write "
        "the value out.",
    ),
    TAG: Code(
        "tags and directives",
        "Tags such as `!!str` and directives such as `%YAML` are not part of the language. Every value is text until "
        "its key says what it means, so nothing needs a tag.",
    ),
    SEVERAL_DOCUMENTS: Code(
        "several documents",
        "One file holds one document; what follows a second `---` would be easy to overlook. Move it to a file of its "
        "own.",
    ),
    NOT_TEXT: Code(
        "not plain text",
        "Files are UTF-8 without tabs and control characters, and without characters that make a reviewer see "
        "something other than what is read: bidirectional controls, line separators that editors do not show as such, "
        "and the private-use characters U+E000 and U+E001. An escape in a quoted value cannot make one either.",
    ),
    TOO_DEEP: Code("nested too deep", "No part of the language nests this deep; the file is most likely not a policy."),
    TOO_LARGE: Code(
        "too large",
        "A file is at most 4 MiB: policies are written and read by people. Split it; every `.yaml` file below "
        "`policy/` is read.",
    ),
    UNREADABLE: Code(
        "cannot be read",
        "The file is there but cannot be read. A policy with a part missing would mean something else, so nothing is "
        "used.",
    ),
    UNKNOWN_KEY: Code(
        "unknown key",
        "A key that Septum does not know would have no effect, while its author believes that it has. It is refused.",
    ),
    MISSING_KEY: Code("missing key", "Something that has no safe default is not there."),
    UNKNOWN_NAME: Code(
        "unknown name",
        "A rule or a setting names a workload, a segment, a node, an issuer or a place outside that `septum.yaml` does "
        "not have.",
    ),
    WRONG_SHAPE: Code(
        "wrong shape", "A mapping, a list or a single value stands where another of the three is expected."
    ),
    WRONG_VALUE: Code("wrong value", "The value has the right shape but no meaning here. The message says what has."),
    DUPLICATE_NAME: Code(
        "name used twice",
        "Names of rules are unique in a mesh, so that a record names one rule. Workloads and places outside have their "
        "names in common, since rules name both in `to`. An issuer is listed once, "
        "so that one set of keys is asked about it.",
    ),
    NO_MESH: Code("no mesh here", "A mesh is a directory with a `septum.yaml`. `septum init` writes one."),
    IGNORED_FILE: Code(
        "file that would be ignored",
        "Policy files end in `.yaml`. A file that looks like one but is not named so would have no effect, so it is "
        "refused. Hidden files and back-up copies (`x~`, `#x#`, `.bak`, `.orig`, `.rej`, `.swp`, `.tmp`) are left "
        "alone.",
    ),
    MISSING_FILE: Code(
        "file not there",
        "A setting names a file below `files/` of the mesh directory, and there is none. Hidden files and back-up "
        "copies are not read.",
    ),
    WRONG_FILE: Code(
        "not the file that is meant",
        "`jwks` names a JSON Web Key Set (RFC 7517) with at least one RSA, EC or OKP key, `ca` a file of PEM "
        "certificates. With less, no token and no certificate could be checked.",
    ),
    SECRET: Code(
        "a secret in a file",
        "Files of a mesh hold what is public. They are stored with every version and sent to every node, so a private "
        "or symmetric key in one is known to many. Take it out, and replace the key.",
    ),
    LANGUAGE: Code(
        "another version of the language",
        "`septum:` in `septum.yaml` says in which version of the language the files are written. A version that this "
        "Septum does not know could mean something else by the same words, so nothing is read.",
    ),
    PATTERN: Code(
        "not a pattern",
        "Patterns work on whole path segments: a literal, `{name}` for exactly one segment, and a final `/**`. "
        "Requests are normalised before they are matched, so a pattern that no normalised path can match is refused.",
    ),
    PROTOCOL: Code(
        "of another protocol",
        "`http:` opens operations on workloads that speak HTTP, `grpc:` on those that speak gRPC, and a rule with "
        "neither opens TCP sessions. What the protocol of a target does not have could never match, or never have an "
        "effect. A session as a whole carries no end user's token, so there are no conditions on one.",
    ),
    NOTHING_ALLOWED: Code(
        "nothing is allowed",
        'A rule says what it allows. To allow every operation, write so: `http: ["* /**"]` or `grpc: ["*"]`. An empty '
        "list is never read as *anything*.",
    ),
    REPEATED: Code(
        "written twice", "The same entry stands twice. It does no harm, and one of the two is most likely a slip."
    ),
    NOT_A_CALLER: Code(
        "not a caller",
        "Places outside the mesh are called and do not call: nobody there has an identity that a proxy could check. "
        "What comes from outside comes through a workload, and rules are from that.",
    ),
    NO_STATEMENT: Code(
        "not one statement",
        "A guarantee states one thing: `never`, `only` or `always`. One that may be broken for a while (`override`) "
        "has a name, so that everybody knows which.",
    ),
    OUT_OF_TIME: Code(
        "a time that cannot be",
        "A time is written as RFC 3339 has it, with its offset and in whole seconds: `2027-01-31T00:00:00Z`. A rule "
        "ends after it begins; otherwise it would never hold.",
    ),
    NOT_A_REQUEST: Code(
        "not a request",
        "A policy test asks for concrete requests, as a client would send them: `GET /orders/42` and not "
        "`GET /orders/{id}`. One that the target does not speak, or that nobody could send, is denied whatever the "
        "rules say, so it would test nothing.",
    ),
    ADDRESS_CLASH: Code("address used twice", "Two things cannot listen at one address."),
    AUTHORITY_CLASH: Code(
        "ambiguous host name",
        "Callers reach a workload by its name, by `name.trust-domain` and, on its node, by its address; a place "
        "outside by its name and its host. Here two of them would answer to one of these.",
    ),
    NOT_A_TARGET: Code(
        "not a TCP workload",
        "`dials` opens a raw TCP address, for what speaks TCP alone. HTTP and gRPC workloads are called through the "
        "caller's outbound listener.",
    ),
    EMPTY_SEGMENT: Code("empty segment", "No workload is in the segment, so rules about it open nothing yet."),
    OPEN_IDENTITY: Code(
        "identity open to the network",
        "Whoever reaches a workload's `outbound` or `dials` address is taken for that workload. An address such as "
        "`0.0.0.0` gives its identity to every host that can reach this one.",
    ),
    NO_WORKLOAD: Code("no workloads", "The mesh has no workload, so there is nothing to call and nothing to protect."),
    NOT_PLACED: Code(
        "on which node",
        "In a mesh that lists `nodes`, each workload says which one fronts it. A mesh that lists none has one node, "
        "which fronts everything, and its workloads name none.",
    ),
    PLAIN_TEXT: Code(
        "plain text over a network",
        "Between nodes calls are encrypted and both ends prove who they are; from a node to the workloads that it "
        "fronts they are plain text. So a workload is at a loopback address, or at an address of its node's own host.",
    ),
    BROKEN_GUARANTEE: Code(
        "broken guarantee",
        "The rules together allow what a guarantee says they never do, or do not allow what it says they always do. "
        "The message has the chain of calls, with a request for each step and the rule that opens it. Take away what "
        "opens it, or give the guarantee an `override` with a name, a reason and an end.",
    ),
    OVERRIDDEN: Code(
        "overridden guarantee",
        "A guarantee is broken, and its `override` allows that until the time it names. After that the policy is "
        "refused as it stands.",
    ),
    NOT_CARRIED_OUT: Code(
        "guarantee not carried out yet",
        "The rules keep the guarantee, but something in the way is observed: what no rule allows still goes through "
        "it, and is only recorded. The message has a chain that goes through. Enforce what it names when ready.",
    ),
    SHADOWED: Code(
        "rule without effect",
        "Everything that the rule allows is allowed by other rules too, so it could go and nothing would change, also "
        "for workloads that its segments get later. Which requests rules allow is computed exactly, over paths, claims "
        "and time. `septum lint --fix` takes it out.",
    ),
    TWIN: Code(
        "rule that stands twice",
        "Another rule allows just the same to the same, and one of the two is most likely a slip. `septum lint --fix` "
        "keeps the one that is written first.",
    ),
    COVERED: Code(
        "operation without effect",
        "What this operation of the rule allows is allowed by its other operations, or by other rules, too. `septum "
        "lint --fix` takes it out of the rule.",
    ),
    TOO_WIDE: Code(
        "everything is allowed",
        "The rule allows every path or every gRPC method of its targets, also those that nobody knows of or that come "
        "later. Name what is needed; where there is a record of traffic, the message says what was used.",
    ),
    NOBODY_YET: Code(
        "segment without workloads",
        "The rule names a segment that no workload is in, so this part of it is about nobody. Whoever is put into the "
        "segment later will have what the rule allows.",
    ),
    NEEDLESS_GRANT: Code(
        "grant without effect",
        "The rule ends some day, and rules that do not end allow all of it: when it ends, nothing ends. `septum lint "
        "--fix` takes it out; if it was meant to end, take away what makes it needless.",
    ),
    ENDED: Code(
        "grant that is over",
        "The rule has ended and allows nothing any more. `septum lint --fix` and `septum tidy --write` take it out.",
    ),
    TO_ITSELF: Code(
        "workload that calls itself",
        "The rule names one workload as caller and as target. A workload rarely calls itself through the proxy, so one "
        "of the two is most likely a slip.",
    ),
    UNUSED_ISSUER: Code(
        "issuer without use",
        "No rule asks for a token of this issuer, so its keys are kept for nothing. Remove it, or write the rule that "
        "was to ask for it.",
    ),
    IDLE_IGNORE: Code(
        "comment without effect",
        "A comment `# septum: ignore CODE` is about a finding that is not there, or about none that can be ignored: "
        "only what `septum lint` finds can. Left where it is, it would hide the next one.",
    ),
    NEWLY_ALLOWED: Code(
        "newly allowed",
        "After the change the marked rule allows requests that are denied now, of which the message has one. `septum "
        "plan` shows these in code review; `--fail-on widen` makes it fail.",
    ),
    NEWLY_DENIED: Code(
        "newly denied",
        "The change takes away requests that are allowed now, of which the message has one. `--fail-on narrow` makes "
        "`septum plan` fail.",
    ),
    PASSES_OTHERWISE: Code(
        "passes or stops as a whole",
        "Whatever is asked of an observed target passes, and nothing passes to and from somebody in quarantine. The "
        "change begins or ends one of these.",
    ),
    DENIED_ON_RECORD: Code(
        "recorded requests would be denied",
        "Requests like those that the message counts are on record, passed, and would be denied after the change. "
        "`--fail-on replay-deny` makes `septum plan` fail.",
    ),
}


def page() -> str:
    """All codes as one Markdown page."""
    head = "# Diagnostic codes\n\n`septum check --explain CODE` prints one of these paragraphs.\n"
    return head + "".join(f"\n## {name}: {code.title}\n\n{code.text}\n" for name, code in CODES.items())
