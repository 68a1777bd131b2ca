"""What Envoy writes of each decision: a JSON line in a file, and a count of the lines that there should be.

A file, because gRPC log streams lose entries silently (`logs_dropped` stays 0). The stats logger counts exactly what
the file logger is asked to write, so a line that never reached the disk shows as a difference.
"""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    ComparisonFilter,
    HeaderFilter,
    OrFilter,
    StatusCodeFilter,
)
from envoy.config.core.v3.base_pb2 import RuntimeUInt32
from envoy.config.core.v3.substitution_format_string_pb2 import JsonFormatOptions, SubstitutionFormatString
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.stats.v3.stats_pb2 import Config as StatsLog
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import UInt64Value

from septum.envoy import names
from septum.envoy.wire import pack

_RBAC = f"DYNAMIC_METADATA({names.RBAC_FILTER}:"
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
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "grpc": "%GRPC_STATUS_NUMBER%",
    "in": "%BYTES_RECEIVED%",
    "out": "%BYTES_SENT%",
    "us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "ms": "%DURATION%",
    "up": "%UPSTREAM_HOST%",
    "uus": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",
}


# Seconds after which a call that has not ended is written down, and again after each such time. A session or a stream
# may last for days, and the record of its decision must not wait for its end, nor be lost with a killed Envoy.
STILL_OPEN = 10.0
# The counter of lines that the file should hold since this Envoy started.
DECISIONS = "septum.decisions"


def loggers(path: str) -> list[Any]:
    """The loggers of every connection manager; `path` is the file of decisions."""
    line = Struct()
    line.update(FIELDS)
    format = SubstitutionFormatString(
        json_format=line, omit_empty_values=True, json_format_options=JsonFormatOptions(sort_properties=False)
    )
    count = StatsLog(
        stat_prefix="septum",
        counters=[StatsLog.Counter(stat=StatsLog.Stat(name="decisions"), value_fixed=UInt64Value(value=1))],
    )
    return [
        AccessLog(name="file", typed_config=pack(FileAccessLog(path=path, log_format=format)), filter=_not_a_tunnel()),
        AccessLog(name="count", typed_config=pack(count), filter=_not_a_tunnel()),
    ]


def _not_a_tunnel() -> Any:
    """A tunnel that opened is no call of a target: the requests inside it are, and each is logged by itself.

    The route of tunnels marks them by a header, which no client can set. One that failed is logged.
    """
    mark = HeaderMatcher(name=names.TUNNEL_HEADER, present_match=True, invert_match=True)
    failed = StatusCodeFilter(
        comparison=ComparisonFilter(
            op=ComparisonFilter.GE, value=RuntimeUInt32(default_value=400, runtime_key="septum.tunnel_failed")
        )
    )
    either = [
        AccessLogFilter(header_filter=HeaderFilter(header=mark)),
        AccessLogFilter(status_code_filter=failed),
    ]
    return AccessLogFilter(or_filter=OrFilter(filters=either))
