"""Why Envoy answered by itself before any policy was asked, in plain words.

The keys are Envoy's response code details (`response_code_details` in its documentation, the constants of its
`StreamInfo::ResponseCodeDetails` and of its codecs), without what may follow in braces.
"""

from __future__ import annotations

_WORDS = {
    "path_normalization_failed": "the path has no safe reading",
    "upgrade_failed": "the target does not take this upgrade",
    "request_headers_too_large": "the headers are too large",
    "request_payload_too_large": "the body is too large",
    "request_header_timeout": "the headers did not arrive in time",
    "request_overall_timeout": "the request did not arrive in time",
    "missing_host_header": "the request names no host",
    "missing_path_rejected": "the request has no path",
    "absolute_path_rejected": "the request target is not a path",
    "invalid_path": "the path is malformed",
    "low_version": "HTTP/1.0 is not accepted",
    "overload": "the proxy is overloaded",
    "codec_error": "the request is malformed",
    "headers_too_large": "the headers are too large",
    "too_many_headers": "there are too many headers",
    "unexpected_underscore": "a header name has an underscore",
    "invalid_characters": "a header holds a forbidden character",
    "invalid_url": "the request target is malformed",
    "invalid_scheme": "the scheme of the request target is not known",
    "invalid_transfer_encoding": "the transfer encoding is not known",
    "transfer_encoding_not_allowed": "a transfer encoding is not allowed here",
    "content_length_and_chunked_not_allowed": "content-length and chunked exclude each other",
    "body_disallowed": "a body is not allowed here",
    "connection_header_rejected": "the connection header is malformed",
    "downstream_remote_disconnect": "the caller left before anything was decided",
    "downstream_local_disconnect": "the connection ended before anything was decided",
    "remote_reset": "the caller left before anything was decided",
    "stream_idle_timeout": "the request did not go on in time",
    "route_not_found": "the request names no workload",
    "route_configuration_not_found": "the request names no workload",
}


def refusal(details: str) -> str:
    """The reason for a refusal; details that are not known are shown as they are."""
    key = details.partition("{")[0].strip().replace(" ", "_")
    # Codecs put their own name before a dot: `http1.codec_error`, `http2.too_many_headers`.
    words = _WORDS.get(key) or _WORDS.get(key.rpartition(".")[2])
    return words or (f"the proxy refused it: {key}" if key else "the proxy refused it")
