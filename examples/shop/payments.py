"""payments: card payments over gRPC. Its messages are google.protobuf.Struct, so there is nothing to generate."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.struct_pb2 import Struct
from listening import HOST, fail, port_or, say, stop_event

SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}


def authorize(request: Struct, _: grpc.ServicerContext) -> Struct:
    return answer(approved=0 < amount(request) <= 1000, payment=uuid.uuid4().hex[:12])


def refund(request: Struct, _: grpc.ServicerContext) -> Struct:
    return answer(approved=amount(request) > 0, refund=uuid.uuid4().hex[:12])


def amount(request: Struct) -> float:
    return request.fields["amount"].number_value if "amount" in request.fields else 0


def answer(**fields: bool | str) -> Struct:
    reply = Struct()
    reply.update(fields)
    return reply


def method(call: Callable[[Struct, grpc.ServicerContext], Struct]) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(call, Struct.FromString, Struct.SerializeToString)


def main() -> None:
    stop, port = stop_event(), port_or(9104)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    methods = {"Authorize": method(authorize), "Refund": method(refund)}
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda _request, _context: SERVING)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("shop.payments.v1.Payments", methods),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    try:
        server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        fail("payments", port, error)
    server.start()
    say(f"payments: listening on {HOST}:{port}")
    stop.wait()
    server.stop(grace=1).wait()


if __name__ == "__main__":
    main()
