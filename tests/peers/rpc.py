"""gRPC without generated code: `rpc.py serve PORT`, `rpc.py talk HOST:PORT TAG`, and `rpc.py talk HOST:PORT TAG AUTHORITY`, which
asks for what the server takes for its name. Messages are plain bytes."""

import sys
from concurrent import futures

import grpc

SERVICE = "ephemwork.test.Peer"


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    if request == b"fail":
        context.set_trailing_metadata((("reason", "asked-for"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here: ünïcode")
    if request == b"host":
        # grpcio shows :authority nowhere else.
        authority = context._rpc_event.call_details.host.decode()
        return f"{authority} {metadata.get('x-forwarded-host', 'none')}".encode()
    context.set_trailing_metadata((("seen", metadata.get("question", "nothing")), ("raw-bin", bytes([0, 255, 10, 13]))))
    return request[::-1]


def client_stream(requests, context):
    count = total = 0
    for request in requests:
        count += 1
        total += len(request)
    return f"{count} {total}".encode()


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number + b"." * 20_000


def both_streams(requests, context):
    for request in requests:
        yield b"<" + request + b">"


def serve(port):
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("listening", bound, flush=True)
    server.wait_for_termination()


def talk(target, tag):
    metadata = (("x-ephemwork", tag), ("question", "why"))
    # A server that answers in lock step proves that no message waits for the next one.
    with grpc.insecure_channel(target) as channel:
        name = f"/{SERVICE}/"
        unary = channel.unary_unary(name + "Unary")
        answer, call = unary.with_call(b"abc", metadata=metadata, timeout=30)
        assert answer == b"cba", answer
        trailing = {key: value for key, value in call.trailing_metadata()}
        assert trailing["seen"] == "why", trailing
        assert trailing["raw-bin"] == bytes([0, 255, 10, 13]), trailing
        if tag != "none":
            initial = dict(call.initial_metadata())
            assert initial.get("x-ephemwork-served-by") == tag, initial
        print("unary")

        big = bytes(range(256)) * 8192
        answer = unary(big, metadata=metadata, timeout=60)
        assert answer == big[::-1]
        print("unary 2 MB")

        try:
            unary(b"fail", metadata=metadata, timeout=30)
            raise AssertionError("the failing call did not fail")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
            assert error.details() == "nothing here: ünïcode", error
            assert dict(error.trailing_metadata())["reason"] == "asked-for", error
        print("status")

        stream = channel.stream_unary(name + "ClientStream")
        answer = stream((b"x" * 10_000 for _ in range(200)), metadata=metadata, timeout=60)
        assert answer == b"200 2000000", answer
        print("client stream")

        stream = channel.unary_stream(name + "ServerStream")
        got = list(stream(b"200", metadata=metadata, timeout=60))
        assert got == [b"%d" % number + b"." * 20_000 for number in range(200)], len(got)
        print("server stream")

        import queue

        questions = queue.Queue()
        answers = channel.stream_stream(name + "BothStreams")(iter(questions.get, None), metadata=metadata, timeout=60)
        for number in range(50):
            questions.put(b"%d" % number)
            got = next(answers)
            assert got == b"<%d>" % number, got
        questions.put(None)
        assert list(answers) == []
        print("both streams")

        # A call that the client gives up must not disturb the next one.
        call = channel.unary_stream(name + "ServerStream")(b"100000", metadata=metadata, timeout=60)
        next(call)
        call.cancel()
        assert unary(b"after", metadata=metadata, timeout=30) == b"retfa"
        print("cancelled")

        deadline = channel.stream_unary(name + "ClientStream")
        try:
            deadline(iter(queue.Queue().get, None), metadata=metadata, timeout=1)
            raise AssertionError("no deadline")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
        print("deadline")


def host(target, tag, authority):
    with grpc.insecure_channel(target, options=[("grpc.default_authority", authority)]) as channel:
        answer = channel.unary_unary(f"/{SERVICE}/Unary")(b"host", metadata=(("x-ephemwork", tag),), timeout=30)
        print(answer.decode())


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
elif len(sys.argv) == 5:
    host(*sys.argv[2:])
else:
    talk(sys.argv[2], sys.argv[3])
    print("all")
