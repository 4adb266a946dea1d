"""A server and a client of grpcio; messages are made by hand, so that their JSON text is known without a reader of them.

    grpc_calls.py server PORT
    grpc_calls.py client ADDRESS
    grpc_calls.py late ADDRESS     keeps one channel; a line of input is a round of calls
"""

import json
import sys
import time
from concurrent import futures

import grpc

from calls import ready, report

SERVICE = "lab.v1.Lab"


def varint(number):
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def encode(fields):
    """A message of protobuf: numbers as varints, texts and messages by their length."""
    octets = b""
    for number, value in fields.items():
        if isinstance(value, int):
            octets += varint(number << 3) + varint(value)
        else:
            value = encode(value) if isinstance(value, dict) else value.encode()
            octets += varint(number << 3 | 2) + varint(len(value)) + value
    return octets


def text(*messages):
    """The body of a call with these messages."""
    return json.dumps(messages, separators=(",", ":"), ensure_ascii=False)


def size(*messages):
    return str(sum(len(encode(message)) for message in messages))


# Longer than a frame and a packet.
LONG = {1: "".join(f"a long message {number} " for number in range(4000)), 2: 7}
SHORT = {1: "wörld", 2: 1234, 3: {1: "inside", 2: 2**40}}
ANSWERS = [{1: f"answer {number}", 2: number + 1} for number in range(5)]


class Lab:
    def __init__(self):
        self.stopped = False

    def unary(self, request, context):
        context.send_initial_metadata((("x-initial", "from the server"),))
        context.set_trailing_metadata((("x-trailing", "behind it"), ("x-raw-bin", b"\x01\x02\xff")))
        return request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-why", "there is none"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100%")

    def slow(self, request, context):
        while context.is_active() and not self.stopped:
            time.sleep(0.01)
        return request

    def answers(self, request, context):
        yield from map(encode, ANSWERS)

    def fail_late(self, request, context):
        yield encode(ANSWERS[0])
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")

    def collect(self, requests, context):
        return encode({2: sum(1 for _ in requests)})

    def chat(self, requests, context):
        yield from requests


def serve(port):
    lab = Lab()
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(lab.unary),
        "Fail": grpc.unary_unary_rpc_method_handler(lab.fail),
        "Slow": grpc.unary_unary_rpc_method_handler(lab.slow),
        "Answers": grpc.unary_stream_rpc_method_handler(lab.answers),
        "FailLate": grpc.unary_stream_rpc_method_handler(lab.fail_late),
        "Collect": grpc.stream_unary_rpc_method_handler(lab.collect),
        "Chat": grpc.stream_stream_rpc_method_handler(lab.chat),
    }
    # Any other method is unary, so that a client can call one that was never called before.
    class Others(grpc.GenericRpcHandler):
        def service(self, details):
            return methods.get(details.method.rsplit("/", 1)[1], methods["Unary"])

    server = grpc.server(futures.ThreadPoolExecutor(8), compression=grpc.Compression.Gzip)
    server.add_generic_rpc_handlers((Others(),))
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    ready()
    server.wait_for_termination()


def pairs(side, metadata):
    """Metadata as headers. Binary values are sent as they are behind a NUL, to which both sides agree in their settings."""
    for name, value in metadata or ():
        if isinstance(value, bytes):
            value = "\0" + value.decode(errors="replace")
        yield f"{side}_header:{name}", value


class Caller:
    def __init__(self, address):
        self.address = address
        self.channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self.number = 0

    def finish(self, method, metadata, call, sent, received, more=(), absent=()):
        """Reports a call that is over, by what its own object says of it."""
        details = [
            ("request_method", "POST"),
            ("request_url", f"http://{self.address}/{SERVICE}/{method}"),
            ("custom_field:http_version", "2"),
            ("custom_field:rpc_system", "grpc"),
            ("custom_field:rpc_service", SERVICE),
            ("custom_field:rpc_method", method),
            ("custom_field:operation", f"{SERVICE}/{method}"),
            ("request_header:content-type", "application/grpc"),
            *pairs("request", metadata),
            *more,
        ]
        absent = list(absent)
        if sent is not None:
            details += [
                ("custom_field:rpc_request_messages", str(len(sent))),
                ("custom_field:rpc_request_message_bytes", size(*sent)),
            ]
            if sent:
                details.append(("request_body", text(*sent)))
        if received is not None:
            details += [
                ("response_code", "200"),
                ("custom_field:rpc_response_messages", str(len(received))),
                ("custom_field:rpc_response_message_bytes", size(*received)),
                ("custom_field:rpc_status_code", str(call.code().value[0])),
                ("custom_field:rpc_status", call.code().name),
                *pairs("response", call.initial_metadata()),
                *pairs("response", call.trailing_metadata()),
            ]
            if received:
                details.append(("response_body", text(*received)))
            else:
                absent.append("response_body")
            absent.append("custom_field:incomplete")
        report(details, absent)

    def metadata(self, *more):
        self.number += 1
        return (("x-call", str(self.number)), ("x-same", "in every call"), *more)

    def unary(self, method, message, *, compression=None, more=()):
        metadata = self.metadata(("x-key-bin", bytes(range(7))))
        stub = self.channel.unary_unary(f"/{SERVICE}/{method}")
        received = []
        try:
            answer, call = stub.with_call(encode(message), metadata=metadata, compression=compression, timeout=60)
            assert answer == encode(message)
            received.append(message)
        except grpc.RpcError as error:
            call = error
        self.finish(method, metadata, call, [message], received, more)

    def stream(self, method, kind, messages):
        metadata = self.metadata()
        stub = getattr(self.channel, kind)(f"/{SERVICE}/{method}")
        sent = [encode(message) for message in messages]
        known = {encode(message): message for message in [*ANSWERS, *messages, {2: len(messages)}]}
        sends_many = kind.startswith("stream")
        received = []
        if kind.endswith("unary"):
            answer, call = stub.with_call(iter(sent), metadata=metadata)
            received.append(known[answer])
        else:
            call = stub(iter(sent) if sends_many else sent[0], metadata=metadata)
            try:
                received.extend(known[answer] for answer in call)
            except grpc.RpcError:
                pass
        self.finish(method, metadata, call, messages, received)

    def deadline(self):
        metadata = self.metadata()
        stub = self.channel.unary_unary(f"/{SERVICE}/Slow")
        try:
            stub(encode(SHORT), metadata=metadata, timeout=0.3)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        # Who ends the stream is a race of the two clocks; the client's own status is never on the wire.
        self.finish("Slow", metadata, None, [SHORT], None)


def run(address):
    caller = Caller(address)
    gzip = grpc.Compression.Gzip
    compressed = [("custom_field:rpc_request_encoding", "gzip")]
    caller.unary("Unary", SHORT)
    caller.unary("Unary", LONG, compression=gzip, more=compressed)
    caller.unary("Unary", LONG)
    caller.unary("Unary", {})
    caller.unary("Fail", SHORT)
    caller.stream("Answers", "unary_stream", [SHORT])
    caller.stream("FailLate", "unary_stream", [SHORT])
    caller.stream("Collect", "stream_unary", [SHORT, LONG, SHORT])
    caller.stream("Collect", "stream_unary", [])
    caller.stream("Chat", "stream_stream", [{2: number + 1} for number in range(30)])
    caller.deadline()
    # Many at once on one connection.
    stub = caller.channel.unary_unary(f"/{SERVICE}/Unary")
    made = []
    for number in range(40):
        message = {1: f"at once {number}", 2: number + 1}
        metadata = caller.metadata()
        made.append((message, metadata, stub.future(encode(message), metadata=metadata)))
    for message, metadata, call in made:
        assert call.result() == encode(message)
        caller.finish("Unary", metadata, call, [message], [message])
    caller.channel.close()


def late(address):
    caller = Caller(address)

    def rounds():
        caller.unary("Unary", SHORT)
        caller.unary(f"New{caller.number}", {2: caller.number + 1})
        print(f"round {caller.number}", file=sys.stderr, flush=True)

    rounds()
    for _ in sys.stdin:
        rounds()


if __name__ == "__main__":
    role, where = sys.argv[1:]
    {"server": serve, "client": run, "late": late}[role](where)
