// WebSockets of the package ws, and event streams: a server with a page for a browser, and a client.
//
//   node web.js server PORT
//   node web.js client HOST:PORT      with and without compression, in fragments, closed by either side
"use strict";

const http = require("node:http");
const WebSocket = require("ws");
const { target, report } = require("./calls.js");

const LONG = Array.from({ length: 3000 }, (_, number) => `a long message ${number} `).join("");

/** A page that opens a WebSocket and an event stream, calls an API, and keeps what it saw in `window.seen`. */
const PAGE = `<!doctype html><title>page</title><script>
window.seen = { sent: [], messages: [], events: [], api: null, done: 0 };
const socket = new WebSocket("ws://" + location.host + "/socket?from=page");
const say = (text) => { seen.sent.push(text); socket.send(text); };
socket.onopen = () => { say("hi"); say(JSON.stringify({ from: "a page", list: [1, 2] })); say(${JSON.stringify(LONG)}); };
socket.onmessage = (event) => {
  seen.messages.push(event.data);
  if (seen.messages.length === 3) socket.close(4000, "enough");
};
socket.onclose = () => seen.done++;
const events = new EventSource("/events");
events.onmessage = (event) => seen.events.push(event.data);
events.addEventListener("end", () => { events.close(); seen.done++; });
fetch("/api", { method: "POST", body: '{"asked":true}', headers: { "content-type": "application/json" } })
  .then((answer) => answer.text()).then((text) => { seen.api = text; seen.done++; });
</script>`;

function serve(port) {
  const server = http.createServer((request, response) => {
    if (request.url === "/events") {
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
      let number = 0;
      const next = () => {
        number++;
        if (number > 4) return response.end("event: end\ndata: bye\n\n");
        response.write(`id: ${number}\ndata: {"event":${number}}\n\n`);
        setTimeout(next, 5);
      };
      next();
    } else if (request.url === "/api") {
      response.writeHead(200, { "content-type": "application/json" });
      response.end('{"answer":42}');
    } else if (request.url === "/") {
      response.writeHead(200, { "content-type": "text/html" });
      response.end(PAGE);
    } else {
      response.writeHead(404);
      response.end();
    }
  });
  const sockets = new WebSocket.Server({ server, perMessageDeflate: { threshold: 0 } });
  // What comes goes back, and in between a ping; a text "close" is answered with a close.
  sockets.on("connection", (socket) => {
    socket.on("message", (message, isBinary) => {
      if (message.toString() === "close") return socket.close(1001, "asked to");
      socket.ping("in between");
      socket.send(message, { binary: isBinary });
    });
  });
  server.listen(port, "0.0.0.0", () => console.error("ready"));
}

/** The line of a WebSocket: texts as strings, but objects and lists as they are. */
function shown(messages) {
  return `[${messages.map((text) => (/^[[{]/.test(text) ? text : JSON.stringify(text))).join(",")}]`;
}

function talk(authority, number, options, messages, closes) {
  return new Promise((resolve, reject) => {
    const path = `/socket/${number}?kind=client`;
    const socket = new WebSocket(`ws://${authority}${path}`, { headers: { "x-call": String(number) }, ...options });
    const [sent, received] = [[], []];
    const say = () => {
      const text = messages[sent.length];
      if (text === undefined) {
        if (closes === "client") return socket.close(4001, "done");
        sent.push("close");
        return socket.send("close");
      }
      sent.push(text);
      if (text.length % 2) return socket.send(text);
      // In three fragments, with a ping between them.
      const cut = Math.floor(text.length / 3);
      socket.send(text.slice(0, cut), { fin: false });
      socket.ping("between fragments");
      socket.send(text.slice(cut, 2 * cut), { fin: false });
      socket.send(text.slice(2 * cut), { fin: true });
    };
    socket.on("open", say);
    socket.on("message", (message) => {
      received.push(message.toString());
      say();
    });
    socket.on("error", reject);
    socket.on("close", (code) => {
      const handshake = [...target("GET", authority, path), ["request_header:x-call", String(number)], ["response_code", "101"]];
      report(handshake, { absent: ["request_body", "response_body", "custom_field:stream"] });
      const length = (texts) => String(texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0));
      report([
        ...handshake,
        ["request_body", shown(sent)],
        ["response_body", shown(received)],
        ["custom_field:stream", "websocket"],
        ["custom_field:websocket_request_messages", String(sent.length)],
        ["custom_field:websocket_response_messages", String(received.length)],
        ["custom_field:websocket_request_message_bytes", length(sent)],
        ["custom_field:websocket_response_message_bytes", length(received)],
        ["custom_field:websocket_close_code", String(code)],
        ["custom_field:websocket_close_by", closes],
      ]);
      resolve();
    });
  });
}

async function call_all(authority) {
  const messages = ["hello", "even", '{"card":[1,2,3]}', LONG, `${LONG}.`, "wörld 漢字", "", "[]"];
  let number = 0;
  for (const closes of ["client", "server"]) {
    for (const perMessageDeflate of [false, true, { threshold: 0 }, { threshold: 0, clientNoContextTakeover: true, serverNoContextTakeover: true }]) {
      await talk(authority, number++, { perMessageDeflate }, messages, closes);
    }
  }
}

const [role, where] = process.argv.slice(2);
if (role === "server") serve(Number(where));
else call_all(where);
