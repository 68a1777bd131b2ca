"""What a caller reads when the proxy answers in place of the target: short JSON, and nothing of the policy.

gRPC callers get the same text as `grpc-message`, with the status Envoy maps from HTTP (403 is PERMISSION_DENIED).
"""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLogFilter, ComparisonFilter, StatusCodeFilter
from envoy.config.core.v3.base_pb2 import RuntimeUInt32
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    LocalReplyConfig,
    ResponseMapper,
)
from google.protobuf.struct_pb2 import Struct

_DENIED = "no policy allows this call"
_REASONS = ((503, "the target cannot be reached"), (504, "the target did not answer in time"))


def local_reply() -> Any:
    """The bodies of every answer that Envoy makes itself."""
    mappers = [_mapper(403, "denied", _DENIED)]
    mappers += [_mapper(status, "unavailable", reason) for status, reason in _REASONS]
    return LocalReplyConfig(mappers=mappers, body_format=_body("refused", "the proxy cannot accept this request"))


def _mapper(status: int, error: str, reason: str) -> Any:
    value = RuntimeUInt32(default_value=status, runtime_key=f"septum.local_reply_{status}")
    comparison = ComparisonFilter(op=ComparisonFilter.EQ, value=value)
    only = AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))
    return ResponseMapper(filter=only, body_format_override=_body(error, reason))


def _body(error: str, reason: str) -> Any:
    fields = Struct()
    fields.update({"error": error, "reason": reason, "request_id": "%REQ(X-REQUEST-ID)%"})
    return SubstitutionFormatString(json_format=fields)
