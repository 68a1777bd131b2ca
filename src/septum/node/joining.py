"""How a host becomes a node: a key made here, the token shown once, a certificate back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from septum.identity.csr import csr
from septum.identity.token import Token, TokenError, read_token
from septum.node.credentials import Credentials, Member
from septum.rpc.client import Calls, ControlRefuses, ControlUnavailable, Tls, control_name, open_channel
from septum.rpc.messages import Enrol, Enrolled


class JoinError(Exception):
    """The host did not become a node; the text says why, and what to do."""


def read_given(given: str) -> Token | None:
    """The token that is given: as text, in a file, or (`-`) on standard input; None for a blank one.

    Raises JoinError. One that has expired is read: it may be the one with which the node joined long ago.
    """
    text = given
    if given == "-":
        text = sys.stdin.read()
    elif not given.startswith("septum1."):
        try:
            text = Path(given).read_text("utf-8", "replace")
        except OSError as error:
            raise JoinError(f"no join token and no file with one: {given}: {error.strerror}") from error
    if not text.strip():
        return None
    try:
        return read_token(text.strip(), 0.0)
    except TokenError as error:
        raise JoinError(str(error)) from error


async def join(credentials: Credentials, token: Token, control: str, within: float = 20.0) -> Member:
    """Join, and keep what came of it. Raises JoinError."""
    if time.time() > token.expires:
        raise JoinError(
            "the join token has expired (or this host's clock is wrong): `septum nodes token` makes another"
        )
    key = credentials.joining_key()
    tls = Tls(token.roots_pem, token.chain_pem, token.key_pem, control_name(token.trust_domain))
    channel = open_channel(control, tls)
    try:
        answer = await Calls(channel, token.node).call("Enrol", Enrol(csr(key)), Enrolled, within)
    except ControlUnavailable as error:
        raise JoinError(f"the control plane at {control} does not answer: {error}") from error
    except ControlRefuses as error:
        raise JoinError(f"the control plane at {control} refuses: {error}") from error
    finally:
        await channel.close()
    member = Member(answer.node, answer.mesh, answer.trust_domain, control, token.id)
    credentials.join(member, answer.chain, key, answer.roots)
    return member
