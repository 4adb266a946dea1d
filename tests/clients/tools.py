"""A server and a client of PyPI's `mcp` over its streamable HTTP.

    tools.py server PORT
    tools.py client HOST:PORT
"""

import asyncio
import json
import sys

from calls import ready, recording


def serve(port):
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.transport_security import TransportSecuritySettings

    server = MCPServer("tools of a test")

    @server.tool()
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"rain in {city}"

    @server.tool()
    def fail() -> str:
        """Always fails."""
        raise ToolError("of no use")

    import uvicorn

    app = server.streamable_http_app(
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets=sockets)
            ready()

    Server(uvicorn.Config(app, host="0.0.0.0", port=int(port), log_level="warning")).run()


def facts(_request, sent, response, body):
    """What a line says about the operation, and how many errors the answer has."""
    if not sent:
        return []
    message = json.loads(sent)
    if "method" not in message:
        return []
    name = message.get("params", {}).get("name")
    details = [
        ("custom_field:operation", " ".join(filter(None, (message["method"], name)))),
        ("custom_field:operation_kind", "mcp"),
    ]
    if response.status_code == 200:
        # One document, or one in each event.
        lines = body.decode().splitlines()
        texts = [line[5:] for line in lines if line.startswith("data:")] or [body.decode()]
        answers = [json.loads(text) for text in texts if text.strip()]
        errors = sum("error" in answer or bool(answer["result"].get("isError")) for answer in answers)
        if errors:
            details.append(("custom_field:application_errors", str(errors)))
    return details


async def call_all(authority):
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    for mode in ("auto", "legacy"):
        _, http_client = recording(facts)
        transport = streamable_http_client(f"http://{authority}/mcp", http_client=http_client)
        async with Client(transport, mode=mode) as client:
            tools = await client.list_tools()
            assert {tool.name for tool in tools.tools} == {"weather", "fail"}, tools
            answer = await client.call_tool("weather", {"city": "Zürich"})
            assert answer.content[0].text == "rain in Zürich", answer
            answer = await client.call_tool("fail", {})
            assert answer.is_error, answer
        await http_client.aclose()


if __name__ == "__main__":
    role, where = sys.argv[1:]
    if role == "server":
        serve(where)
    else:
        asyncio.run(call_all(where))
