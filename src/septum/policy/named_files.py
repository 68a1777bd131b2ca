"""The files below `files/` that settings name: an issuer's public keys, and the certificates of a place outside.

They are stored with every version and sent to every node, so no private key may be in one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from septum.model.diagnostic import Diagnostic
from septum.policy.codes import MISSING_FILE, SECRET, TOO_LARGE, UNREADABLE, WRONG_FILE, WRONG_VALUE
from septum.policy.fit import suggestion
from septum.policy.roles import FILES_DIR, Role, role
from septum.policy.source import Scalar
from septum.policy.text import MAX_BYTES

Files = Mapping[str, bytes | OSError]

# RFC 7518, 6.2.2, 6.3.2 and 6.4.1: the members of a JSON Web Key that are private, or are the key itself.
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_KINDS = ("RSA", "EC", "OKP")
_PRIVATE_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


class _WrongFileError(ValueError):
    """What is wrong with a file's content: the code, the message after the file's name, and what to do."""

    def __init__(self, code: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.help = code, message, help


def key_set(at: Scalar, files: Files) -> str | Diagnostic:
    """The JSON Web Key Set (RFC 7517) in the file that a setting names, or what is wrong."""
    return _content(at, files, _check_keys)


def certificates(at: Scalar, files: Files) -> str | Diagnostic:
    """The PEM certificates in the file that a setting names, or what is wrong."""
    return _content(at, files, _check_certificates)


def _content(at: Scalar, files: Files, check: Callable[[str], None]) -> str | Diagnostic:
    path = at.text
    if role(path) is not Role.FILE or path == FILES_DIR or {"", ".", ".."} & set(path.split("/")):
        help = "name a file below `files/` of the mesh directory, such as files/login.json"
        return Diagnostic(WRONG_VALUE, f"`{path}` is not a file below `files/`", at.span, help=help)
    content = files.get(path)
    if content is None:
        help = suggestion(path, [name for name in files if role(name) is Role.FILE])
        return Diagnostic(MISSING_FILE, f"there is no {path} here", at.span, help=help)
    if isinstance(content, OSError):
        reason = content.strerror or str(content) or type(content).__name__
        return Diagnostic(UNREADABLE, f"{path} cannot be read: {reason}", at.span)
    if len(content) > MAX_BYTES:
        return Diagnostic(TOO_LARGE, f"{path} is larger than {MAX_BYTES >> 20} MiB", at.span)
    try:
        text = _text(content)
        check(text)
    except _WrongFileError as error:
        return Diagnostic(error.code, f"{path} {error.message}", at.span, help=error.help)
    return text


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise _WrongFileError(WRONG_FILE, "is not UTF-8 text") from None


def _check_keys(text: str) -> None:
    if _PRIVATE_PEM.search(text):
        raise _secret("a private key")
    try:
        tree = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _WrongFileError(WRONG_FILE, f"is not JSON: {error}") from None
    keys = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(keys, list) or not keys:
        help = 'write {"keys": [...]}, as the issuer publishes it'
        raise _WrongFileError(WRONG_FILE, "is not a JSON Web Key Set: an object whose `keys` is a list of keys", help)
    for number, key in enumerate(keys, start=1):
        _check_key(number, key)


def _check_key(number: int, key: Any) -> None:
    if not isinstance(key, dict) or not isinstance(key.get("kty"), str):
        raise _WrongFileError(WRONG_FILE, f"is not a JSON Web Key Set: key {number} is no object with a `kty`")
    private = next((name for name in _PRIVATE if name in key), None)
    if private is not None:
        raise _secret(f"the private member `{private}` of key {number}")
    if key["kty"] not in _KINDS:
        message = f"holds a key of a kind that proxies do not check with: `{key['kty']}`, of key {number}"
        raise _WrongFileError(WRONG_FILE, message, f"known are {', '.join(_KINDS)}; leave the others out")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of two members of one name, readers take one or the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"`{next(name for name in names if names.count(name) > 1)}` stands twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_certificates(text: str) -> None:
    if _PRIVATE_PEM.search(text):
        raise _secret("a private key")
    from cryptography import x509  # noqa: PLC0415 - a third of the time of starting, and few meshes name certificates

    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        help = "each stands between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
        raise _WrongFileError(WRONG_FILE, "does not hold certificates that can be read (PEM)", help) from None


def _secret(what: str) -> _WrongFileError:
    help = "take it out, and make a new key: files are stored with every version and sent to every node"
    return _WrongFileError(SECRET, f"holds {what}", help)
