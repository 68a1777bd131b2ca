"""Keys and requests for certificates: made on the node, and read by the authority."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from septum.identity.pem import UNREADABLE, CertificateError, key_pem, read_key

# A request for a P-256 certificate is about 250 bytes.
_MAX_BYTES = 16 << 10


def new_key() -> bytes:
    """A new private key (P-256, PKCS#8 in PEM). It is written nowhere."""
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def csr(key: bytes) -> bytes:
    """A request (PKCS#10, DER) signed with a key that `new_key` made. It asks for nothing: the authority chooses."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(read_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a request whose sender has the private one. Raises CertificateError.

    Nothing else of a request is looked at: names and extensions are the authority's choice.
    """
    if len(request) > _MAX_BYTES:
        raise CertificateError(f"a request has at most {_MAX_BYTES} bytes, and this one {len(request)}")
    try:
        read = x509.load_der_x509_csr(request)
        key = read.public_key()
        proved = read.is_signature_valid
    except UNREADABLE as error:
        raise CertificateError(f"this is no certificate request (PKCS#10, DER): {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("the key of a request must be P-256")
    if not proved:
        raise CertificateError("the request is not signed with its own key")
    return key
