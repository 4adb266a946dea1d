"""A server that answers as a server of language models does, and the client of PyPI's `openai`.

    models.py server PORT
    models.py client HOST:PORT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from calls import ready, recording

WORDS = ["Each ", "event ", "holds ", "a ", "wörd ", "or ", "two."]


class Models(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, kind="application/json"):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = request["model"]
        if model == "missing":
            return self.answer(404, {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}})
        about = {"id": "chat-1", "created": 1, "model": model}
        usage = {"prompt_tokens": 3, "completion_tokens": len(WORDS), "total_tokens": 3 + len(WORDS)}
        if not request.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(WORDS)}}
            return self.answer(200, {**about, "object": "chat.completion", "choices": [choice], "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

        def event(value):
            text = value if isinstance(value, str) else json.dumps(value)
            data = f"data: {text}\n\n".encode()
            # In two chunks, the cut inside a line.
            for part in (data[:9], data[9:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()

        for word in WORDS:
            choice = {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": word}}
            event({**about, "object": "chat.completion.chunk", "choices": [choice]})
        if model == "failing":
            event({"error": {"message": "overloaded", "type": "server_error", "code": "500"}})
        else:
            event({**about, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


def serve(port):
    server = ThreadingHTTPServer(("0.0.0.0", int(port)), Models)
    ready()
    server.serve_forever()


def facts(_request, _sent, response, body):
    """Events and the end of a stream, counted in what was received."""
    if response.headers["content-type"] != "text/event-stream":
        return []
    events = [event for event in body.decode().split("\n\n") if event]
    end = "error" if '"error"' in events[-1] else "done"
    return [("custom_field:sse_events", str(len(events))), ("custom_field:stream_end", end)]


def call_all(authority):
    import openai

    http_client, _ = recording(facts)
    client = openai.OpenAI(
        base_url=f"http://{authority}/v1", api_key="a-key-of-a-test", max_retries=0, http_client=http_client
    )

    def create(model, stream=False):
        options = {"stream_options": {"include_usage": True}} if stream else {}
        messages = [{"role": "user", "content": "Say a wörd."}]
        return client.chat.completions.create(model=model, messages=messages, stream=stream, **options)

    assert create("small").choices[0].message.content == "".join(WORDS)
    with create("small", stream=True) as chunks:
        words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert words == WORDS, words
    try:
        with create("failing", stream=True) as chunks:
            list(chunks)
        raise AssertionError("the error is an event")
    except openai.APIError as error:
        assert "overloaded" in str(error), error
    try:
        create("missing")
        raise AssertionError("there is no such model")
    except openai.NotFoundError:
        pass
    client.close()


if __name__ == "__main__":
    role, where = sys.argv[1:]
    {"server": serve, "client": call_all}[role](where)
