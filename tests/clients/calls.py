"""What a client reports: one line of JSON for each call, with the details of it as a line of the sniffer has them."""

import json
import sys
import threading

LOCK = threading.Lock()


def report(details, absent=(), begins=(), whole=()):
    """`absent`: keys that its line must not have; `begins`: details whose value begins so; `whole`: sides whose headers are
    all known."""
    line = {"details": list(details), "absent": list(absent), "begins": list(begins), "whole": list(whole)}
    with LOCK:
        print(json.dumps(line), flush=True)


def ready():
    print("ready", file=sys.stderr, flush=True)


class Received:
    """The stream of a response that reports its call, with all bytes that the client read, once it is closed."""

    def __init__(self, stream, finish):
        self.stream = stream
        self.finish = finish
        self.bytes = bytearray()
        self.is_whole = False

    def keep(self, part):
        self.bytes += part
        return part

    def end(self):
        if self.finish:
            finish, self.finish = self.finish, None
            finish(bytes(self.bytes), self.is_whole)


def finisher(request, sent, response, facts):
    """Reports a call of httpx2. `facts`: more details, from request, sent body, response and received body."""

    def finish(body, is_whole):
        def headers(side, fields):
            left_out = ("host", "transfer-encoding", "trailer")
            pairs = [(name.decode().lower(), value.decode()) for name, value in fields.raw]
            return [(f"{side}_header:{name}", value) for name, value in pairs if name not in left_out]

        details = [
            ("request_method", request.method),
            ("request_url", str(request.url).split("?")[0]),
            ("response_code", str(response.status_code)),
            *headers("request", request.headers),
            *headers("response", response.headers),
            *facts(request, sent, response, body),
        ]
        begins, absent = [], []
        if sent:
            details.append(("request_body", sent.decode()))
        if is_whole:
            absent.append("custom_field:incomplete")
            if body:
                details.append(("response_body", body.decode()))
        elif body:
            begins.append(("response_body", body.decode()))
        report(details, absent, begins, ["request", "response"])

    return finish


def recording(facts):
    """A client of httpx2 and one that is asynchronous, which report their calls."""
    import httpx2

    class Stream(Received, httpx2.SyncByteStream):
        def __iter__(self):
            yield from map(self.keep, self.stream)
            self.is_whole = True

        def close(self):
            self.stream.close()
            self.end()

    class AsyncStream(Received, httpx2.AsyncByteStream):
        async def __aiter__(self):
            async for part in self.stream:
                yield self.keep(part)
            self.is_whole = True

        async def aclose(self):
            await self.stream.aclose()
            self.end()

    class Transport(httpx2.HTTPTransport):
        def handle_request(self, request):
            sent = request.read()
            response = super().handle_request(request)
            response.stream = Stream(response.stream, finisher(request, sent, response, facts))
            return response

    class AsyncTransport(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            sent = await request.aread()
            response = await super().handle_async_request(request)
            response.stream = AsyncStream(response.stream, finisher(request, sent, response, facts))
            return response

    return httpx2.Client(transport=Transport()), httpx2.AsyncClient(transport=AsyncTransport(), timeout=30)
