"""Who belongs to the mesh beside its policy: nodes, join tokens, certificates, quarantine, and what must be cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from septum.control.state import State, Statement

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS node (
        name TEXT PRIMARY KEY, workloads TEXT NOT NULL, joined REAL NOT NULL, standing TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS token (
        id TEXT PRIMARY KEY, node TEXT NOT NULL, workloads TEXT NOT NULL, expires REAL NOT NULL, key TEXT
    )""",
    "CREATE TABLE IF NOT EXISTS certificate (serial TEXT PRIMARY KEY, node TEXT NOT NULL, not_after REAL NOT NULL)",
    "CREATE INDEX IF NOT EXISTS certificate_of_node ON certificate (node)",
    "CREATE INDEX IF NOT EXISTS certificate_by_end ON certificate (not_after)",
    """CREATE TABLE IF NOT EXISTS quarantine (
        workload TEXT PRIMARY KEY, until REAL, since REAL NOT NULL, author TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS cut (
        caller TEXT NOT NULL, target TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (caller, target)
    )""",
)

Pair = tuple[str, str]


class Standing(StrEnum):
    """Where a node stands. A removed one has no valid certificate; a new token lets it join again."""

    JOINED = "joined"
    DRAINING = "draining"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Member:
    """A node that joined, and the workloads that it may front."""

    name: str
    workloads: frozenset[str]
    joined: float
    standing: Standing


@dataclass(frozen=True, slots=True)
class Token:
    """A join token: for one node, with the workloads that it may front. `key` is the digest of the key that used it."""

    id: str
    node: str
    workloads: frozenset[str]
    expires: float
    key: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A workload whose allows are taken away until a time (seconds since 1970), or until it is released."""

    workload: str
    until: float | None
    since: float
    author: str


class TokenRefused(Exception):
    """A join token that does not let anybody in; the text says why."""


class Registry:
    """The tables, in the state's file. Raises StateError as the state does."""

    def __init__(self, state: State) -> None:
        self._state = state
        # Read again after each change: every call of every agent asks who is a member.
        self._members: Mapping[str, Member] | None = None
        state.write(*((statement, ()) for statement in _SCHEMA))

    def members(self) -> Mapping[str, Member]:
        """The nodes that ever joined, by name."""
        if self._members is None:
            self._members = self._read_members()
        return self._members

    def _read_members(self) -> dict[str, Member]:
        rows = self._state.rows("SELECT name, workloads, joined, standing FROM node ORDER BY name")
        return {r[0]: Member(r[0], frozenset(json.loads(r[1])), r[2], Standing(r[3])) for r in rows}

    def set_standing(self, node: str, standing: Standing) -> None:
        """Say where a node stands. The tokens of a removed one are void: it comes back with a new one alone."""
        self._members = None
        void = [("DELETE FROM token WHERE node = ?", (node,))] if standing is Standing.REMOVED else []
        self._state.write(("UPDATE node SET standing = ? WHERE name = ?", (standing, node)), *void)

    def add_token(self, token: Token, now: float) -> None:
        """Keep a new token. Unused ones for the same node, and old ones, are void from now on."""
        row = (token.id, token.node, json.dumps(sorted(token.workloads)), token.expires)
        self._state.write(
            ("DELETE FROM token WHERE node = ? AND key IS NULL", (token.node,)),
            ("DELETE FROM token WHERE expires < ?", (now - 30 * 86400,)),
            ("INSERT INTO token (id, node, workloads, expires) VALUES (?, ?, ?, ?)", row),
        )

    def tokens(self) -> list[Token]:
        """Every token that is known, used ones too."""
        rows = self._state.rows("SELECT id, node, workloads, expires, key FROM token ORDER BY expires")
        return [Token(r[0], r[1], frozenset(json.loads(r[2])), r[3], r[4] or "") for r in rows]

    def redeem(self, id: str, key: str, now: float) -> Token:
        """Use a token for the key of that digest; the node is a member when this returns. Raises TokenRefused.

        The same key may ask again: the answer to its first call may never have arrived.
        """
        token = next((token for token in self.tokens() if token.id == id), None)
        if token is None:
            raise TokenRefused("the token is not known here, or a newer one was made for its node")
        if token.key not in ("", key):
            raise TokenRefused("the token was used already; `septum nodes token` makes a new one")
        if now > token.expires:
            raise TokenRefused("the token has expired; `septum nodes token` makes a new one")
        self._members = None
        member = (token.node, json.dumps(sorted(token.workloads)), now, Standing.JOINED)
        self._state.write(
            ("UPDATE token SET key = ? WHERE id = ?", (key, id)),
            ("INSERT OR REPLACE INTO node (name, workloads, joined, standing) VALUES (?, ?, ?, ?)", member),
        )
        return token

    def note_certificate(self, serial: int, node: str, not_after: float, now: float) -> None:
        """Remember a certificate that a node has, so that it can be revoked; ended ones are forgotten."""
        insert = "INSERT OR REPLACE INTO certificate (serial, node, not_after) VALUES (?, ?, ?)"
        ended = ("DELETE FROM certificate WHERE not_after < ?", (now - 3600,))
        self._state.write((insert, (str(serial), node, not_after)), ended)

    def certificates(self, node: str) -> dict[int, float]:
        """The serials of the certificates that a node has or had and when each ends, if it has not ended."""
        rows = self._state.rows("SELECT serial, not_after FROM certificate WHERE node = ?", (node,))
        return {int(serial): not_after for serial, not_after in rows}

    def has_certificate(self, node: str, serial: int) -> bool:
        """Whether a certificate is one that the node has or had, and has not ended."""
        return bool(self._state.rows("SELECT 1 FROM certificate WHERE serial = ? AND node = ?", (str(serial), node)))

    def quarantined(self, now: float) -> dict[str, Quarantined]:
        """Who is in quarantine now."""
        rows = self._state.rows("SELECT workload, until, since, author FROM quarantine ORDER BY workload")
        return {r[0]: Quarantined(*r) for r in rows if r[1] is None or r[1] > now}

    def quarantine(self, entry: Quarantined) -> None:
        """Put a workload into quarantine, or change until when."""
        row = (entry.workload, entry.until, entry.since, entry.author)
        self._state.write(
            ("INSERT OR REPLACE INTO quarantine (workload, until, since, author) VALUES (?, ?, ?, ?)", row)
        )

    def release(self, workload: str) -> None:
        """End a quarantine."""
        self._state.write(("DELETE FROM quarantine WHERE workload = ?", (workload,)))

    def cuts(self) -> dict[Pair, str]:
        """What each pair's live calls were cut with last."""
        return {(row[0], row[1]): row[2] for row in self._state.rows("SELECT caller, target, token FROM cut")}


def cut_statements(cuts: Mapping[Pair, str], kept: Iterable[Pair]) -> list[Statement]:
    """What writes new cuts beside those that are `kept`; the others are of pairs that are no more."""
    wanted = json.dumps([list(pair) for pair in (*kept, *cuts)])
    gone = "DELETE FROM cut WHERE json_array(caller, target) NOT IN (SELECT value FROM json_each(?))"
    put = "INSERT OR REPLACE INTO cut (caller, target, token) VALUES (?, ?, ?)"
    return [(gone, (wanted,)), *((put, (*pair, token)) for pair, token in cuts.items())]
