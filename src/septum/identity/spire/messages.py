"""The Workload API's messages (spiffe/standards/workloadapi.proto), as far as the X.509-SVID profile uses them.

They are described here and not generated, so that neither building nor running takes a protobuf compiler. They live in
a pool of their own: the standard gives them no package, and another library in the same process may have them too.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

FETCH_X509_SVID = "/SpiffeWorkloadAPI/FetchX509SVID"
# SPIFFE Workload Endpoint, section 3: what every call carries, so that nobody can be tricked into making one.
SECURITY_HEADER = ("workload.spiffe.io", "true")

_Field = FieldDescriptorProto


def _field(name: str, number: int, kind: _Field.Type.ValueType, repeated: bool = False, of: str = "") -> _Field:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    return _Field(name=name, number=number, type=kind, label=label, type_name=of or None)


def _svid() -> DescriptorProto:
    return DescriptorProto(
        name="X509SVID",
        field=[
            _field("spiffe_id", 1, _Field.TYPE_STRING),
            _field("x509_svid", 2, _Field.TYPE_BYTES),
            _field("x509_svid_key", 3, _Field.TYPE_BYTES),
            _field("bundle", 4, _Field.TYPE_BYTES),
            _field("hint", 5, _Field.TYPE_STRING),
        ],
    )


def _response() -> DescriptorProto:
    bundles = DescriptorProto(
        name="FederatedBundlesEntry",
        field=[_field("key", 1, _Field.TYPE_STRING), _field("value", 2, _Field.TYPE_BYTES)],
        options=MessageOptions(map_entry=True),
    )
    return DescriptorProto(
        name="X509SVIDResponse",
        field=[
            _field("svids", 1, _Field.TYPE_MESSAGE, repeated=True, of=".X509SVID"),
            _field("crl", 2, _Field.TYPE_BYTES, repeated=True),
            _field(
                "federated_bundles",
                3,
                _Field.TYPE_MESSAGE,
                repeated=True,
                of=".X509SVIDResponse.FederatedBundlesEntry",
            ),
        ],
        nested_type=[bundles],
    )


def _classes() -> dict[str, Any]:
    request = DescriptorProto(name="X509SVIDRequest")
    file = FileDescriptorProto(name="workloadapi.proto", syntax="proto3", message_type=[request, _svid(), _response()])
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {of.name: GetMessageClass(pool.FindMessageTypeByName(of.name)) for of in file.message_type}


_CLASSES = _classes()
X509SVIDRequest: Any = _CLASSES["X509SVIDRequest"]
X509SVID: Any = _CLASSES["X509SVID"]
X509SVIDResponse: Any = _CLASSES["X509SVIDResponse"]
