"""What Envoy writes of each decision: a JSON line in a file, and a count of the lines that there should be.

A file, because gRPC log streams lose entries silently (`logs_dropped` stays 0). The stats logger counts exactly what
the file logger is asked to write, so a line that never reached the disk shows as a difference.
"""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy.config.core.v3.base_pb2 import RuntimeUInt32
from envoy.config.core.v3.substitution_format_string_pb2 import JsonFormatOptions, SubstitutionFormatString
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from envoy.extensions.access_loggers.stats.v3.stats_pb2 import Config as StatsLog
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import UInt64Value

from septum.envoy import names
from septum.envoy.wire import pack
from septum.model.mesh import External

_RBAC = f"DYNAMIC_METADATA({names.RBAC_FILTER}:"
# The payload of an end user's token, once it is verified; who it is about, and nothing else of it, is kept.
_CLAIMS = "DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:"
_ROUTE = f"METADATA(ROUTE:{names.METADATA}:"

# Short keys, since they are written once a request. `audit` reads them; docs/records.md says what becomes of them.
FIELDS = {
    "t": "%START_TIME(%s.%6f)%",
    "type": "%ACCESS_LOG_TYPE%",
    "id": "%REQ(X-REQUEST-ID)%",
    "tp": "%REQ(TRACEPARENT)%",
    "node": "%ENVIRONMENT(SEPTUM_NODE)%",
    "run": "%ENVIRONMENT(SEPTUM_RUN)%",
    "caller": f"%FILTER_STATE({names.CALLER}:PLAIN)%",
    "target": f"%{_ROUTE}target)%",
    "authority": "%REQ(:AUTHORITY)%",
    "proto": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH)%",
    "ctype": "%REQ(CONTENT-TYPE)%",
    "upgrade": "%REQ(UPGRADE)%",
    "mode": f"%{_ROUTE}mode)%",
    "slice": f"%{_ROUTE}slice)%",
    "ep": f"%{_RBAC}enforced_effective_policy_id)%",
    "sp": f"%{_RBAC}shadow_effective_policy_id)%",
    "cv": f"%{_ROUTE}{names.CANDIDATE})%",
    "iss": f"%{_CLAIMS}iss)%",
    "sub": f"%{_CLAIMS}sub)%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "grpc": "%GRPC_STATUS_NUMBER%",
    "in": "%BYTES_RECEIVED%",
    "out": "%BYTES_SENT%",
    "us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "ms": "%DURATION%",
    "up": "%UPSTREAM_HOST%",
    "tls": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "uus": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",
}

# The caller's ID on a connection with a certificate: its URI SANs, with commas between if there are several.
PEER = "%DOWNSTREAM_PEER_URI_SAN%"
# What is known of a connection that came to no request. Who it says it is was not proven.
_TURNED_AWAY = {
    "t": FIELDS["t"],
    "type": "Connection",
    "node": FIELDS["node"],
    "run": FIELDS["run"],
    "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "claimed": PEER,
    "sni": FIELDS["sni"],
    "flags": FIELDS["flags"],
    "details": FIELDS["details"],
    "tls": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "ms": FIELDS["ms"],
}
# What is known of a session that its gate did not let through. Its CONNECT was allowed, and has a line of its own.
_STOPPED = {
    "t": FIELDS["t"],
    "type": "Gate",
    "node": FIELDS["node"],
    "run": FIELDS["run"],
    "method": "CONNECT",
    "flags": FIELDS["flags"],
    "details": FIELDS["details"],
    "ms": FIELDS["ms"],
    "sni": FIELDS["sni"],
}
# What says that a forwarded call may not have reached the node that decides: no connection to it, or one that broke.
_ON_THE_WAY = ("UF", "UO", "UH", "NC", "UT", "UC", "URX", "LR", "UPE", "OM", "DPE", "SI", "DT")

# Seconds after which a call that has not ended is written down, and again after each such time. A session or a stream
# may last for days, and the record of its decision must not wait for its end, nor be lost with a killed Envoy.
STILL_OPEN = 10.0
# The counter of lines that the file should hold since this Envoy started.
DECISIONS = "septum.decisions"


def loggers(path: str, *, spans: bool = False, caller: str = FIELDS["caller"]) -> list[Any]:
    """The loggers of a connection manager; `path` is the file of decisions.

    `spans` says whether there are other nodes, to which calls are forwarded, and `caller` where the caller's ID is.
    """
    filter = _either([_unmarked(), *_failed(spans)])
    return _both(path, FIELDS | {"caller": caller}, filter)


def turned_away(path: str) -> list[Any]:
    """The loggers of the inbound listener: a line for each connection that came to no request.

    It was no TLS, asked for nobody here, or had no certificate that is trusted.
    """
    no_chain = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"]))
    no_handshake = ExpressionFilter(expression='connection.transport_failure_reason != ""')
    extension = ExtensionFilter(name="envoy.access_loggers.extension_filters.cel", typed_config=pack(no_handshake))
    return _both(path, _TURNED_AWAY, _either([no_chain, AccessLogFilter(extension_filter=extension)]))


def stopped(path: str, caller: str, place: External) -> list[Any]:
    """The loggers of a caller's gate: a line for each session that did not say the host of the place."""
    says_another = ExpressionFilter(expression=f'connection.requested_server_name != "{place.host}"')
    extension = ExtensionFilter(name="envoy.access_loggers.extension_filters.cel", typed_config=pack(says_another))
    known = {"caller": caller, "target": place.name, "authority": f"{place.host}:{place.port}"}
    return _both(path, _STOPPED | known, AccessLogFilter(extension_filter=extension))


def _both(path: str, fields: dict[str, str], filter: Any) -> list[Any]:
    line = Struct()
    line.update(fields)
    format = SubstitutionFormatString(
        json_format=line, omit_empty_values=True, json_format_options=JsonFormatOptions(sort_properties=False)
    )
    count = StatsLog(
        stat_prefix="septum",
        counters=[StatsLog.Counter(stat=StatsLog.Stat(name="decisions"), value_fixed=UInt64Value(value=1))],
    )
    return [
        AccessLog(name="file", typed_config=pack(FileAccessLog(path=path, log_format=format)), filter=filter),
        AccessLog(name="count", typed_config=pack(count), filter=filter),
    ]


def _unmarked() -> Any:
    """What leads to where a call is decided is marked by a header, which no client can set, and is logged there."""
    mark = HeaderMatcher(name=names.TUNNEL_HEADER, present_match=True, invert_match=True)
    return AccessLogFilter(header_filter=HeaderFilter(header=mark))


def _failed(spans: bool) -> list[Any]:
    """What did not get there is logged all the same: a tunnel that did not open, and a call that failed on the way."""
    refused = AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=ComparisonFilter.GE, value=RuntimeUInt32(default_value=400, runtime_key="septum.tunnel_failed")
            )
        )
    )
    if not spans:
        return [refused]
    broken = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=_ON_THE_WAY))
    return [_all([_marked("1"), refused]), _all([_marked(names.FORWARDED), broken])]


def _marked(value: str) -> Any:
    mark = HeaderMatcher(name=names.TUNNEL_HEADER, string_match=StringMatcher(exact=value))
    return AccessLogFilter(header_filter=HeaderFilter(header=mark))


def _either(filters: list[Any]) -> Any:
    return AccessLogFilter(or_filter=OrFilter(filters=filters))


def _all(filters: list[Any]) -> Any:
    return AccessLogFilter(and_filter=AndFilter(filters=filters))
