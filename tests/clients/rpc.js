// Remote procedure calls of Node: a server of connect-node that answers Connect, gRPC and gRPC-Web over HTTP/1.1 and HTTP/2, and
// the clients of connect-node for each, and of grpc-js.
//
//   node rpc.js server PORT1 PORT2    HTTP/1.1 and HTTP/2
//   node rpc.js client HOST PORT1 PORT2
//   node rpc.js grpc-js ADDRESS       against the server of grpc_calls.py
"use strict";

const { target, report } = require("./calls.js");

const SERVICE = "lab.v1.Lab";

/** The service without generated code: its descriptor is made here. */
function lab() {
  const { create, createFileRegistry } = require("@bufbuild/protobuf");
  const wkt = require("@bufbuild/protobuf/wkt");
  const field = (name, number, type) => ({ name, jsonName: name, number, type, label: wkt.FieldDescriptorProto_Label.OPTIONAL });
  const method = (name, clientStreaming, serverStreaming) => ({
    name,
    inputType: ".lab.v1.Note",
    outputType: ".lab.v1.Note",
    clientStreaming,
    serverStreaming,
  });
  const file = create(wkt.FileDescriptorProtoSchema, {
    name: "lab.proto",
    package: "lab.v1",
    syntax: "proto3",
    messageType: [
      {
        name: "Note",
        field: [
          field("text", 1, wkt.FieldDescriptorProto_Type.STRING),
          field("count", 2, wkt.FieldDescriptorProto_Type.UINT32),
        ],
      },
    ],
    service: [
      {
        name: "Lab",
        method: [method("Say", false, false), method("Fail", false, false), method("Count", false, true), method("Add", true, false)],
      },
    ],
  });
  const registry = createFileRegistry(file, () => undefined);
  return { service: registry.getService(SERVICE), note: (init) => create(registry.getMessage("lab.v1.Note"), init) };
}

function serve(port1, port2) {
  const { connectNodeAdapter } = require("@connectrpc/connect-node");
  const { ConnectError, Code } = require("@connectrpc/connect");
  const { service, note } = lab();
  const routes = (router) =>
    router.service(service, {
      say(request, context) {
        context.responseHeader.set("x-initial", "from the server");
        context.responseTrailer.set("x-trailing", "behind it");
        return request;
      },
      fail() {
        throw new ConnectError("no such thing", Code.NotFound, { "x-why": "there is none" });
      },
      async *count(request) {
        for (let count = 1; count <= request.count; count++) yield note({ text: request.text, count });
      },
      async add(requests) {
        let count = 0;
        for await (const request of requests) count += request.count;
        return note({ count });
      },
    });
  const handler = connectNodeAdapter({ routes });
  require("node:http").createServer(handler).listen(port1, "0.0.0.0", () => {
    require("node:http2").createServer(handler).listen(port2, "0.0.0.0", () => console.error("ready"));
  });
}

/** A message as the line shows it: by field number, or as JSON with names where it is sent so. */
function shown({ text, count }, isJson) {
  const pairs = [];
  if (text) pairs.push([isJson ? "text" : "1", text]);
  if (count) pairs.push([isJson ? "count" : "2", count]);
  return JSON.stringify(Object.fromEntries(pairs));
}

async function call_all(host, port1, port2) {
  const { createClient, ConnectError } = require("@connectrpc/connect");
  const node = require("@connectrpc/connect-node");
  const { service } = lab();
  const makers = {
    connect: node.createConnectTransport,
    grpc: node.createGrpcTransport,
    grpc_web: node.createGrpcWebTransport,
  };
  const long = Array.from({ length: 3000 }, (_, number) => `a long message ${number} `).join("");
  for (const httpVersion of ["1.1", "2"]) {
    const authority = `${host}:${httpVersion === "2" ? port2 : port1}`;
    for (const [system, make] of Object.entries(makers)) {
      // gRPC is HTTP/2.
      if (system === "grpc" && httpVersion === "1.1") continue;
      for (const isJson of [false, true]) {
        const options = { baseUrl: `http://${authority}`, httpVersion, useBinaryFormat: !isJson };
        // Compressed in one of the two forms, from a size of its own.
        if (isJson) options.sendCompression = node.compressionGzip;
        const client = createClient(service, make(options));
        const one = async (method, messages, start) => {
          const mark = `${system}-${httpVersion}-${isJson}-${method}-${messages[0].text?.length}`;
          const seen = { status: ["0", "OK"], answers: [], headers: [] };
          const options = {
            headers: { "x-call": mark },
            onHeader: (header) => seen.headers.push(...header),
            onTrailer: (trailer) => seen.headers.push(...trailer),
          };
          try {
            for await (const answer of start(options)) seen.answers.push(answer);
          } catch (thrown) {
            const error = ConnectError.from(thrown);
            if (error.code !== 5) throw error;
            seen.status = ["5", "NOT_FOUND"];
            seen.headers.push(...error.metadata);
          }
          const name = method[0].toUpperCase() + method.slice(1);
          const isStream = method === "count" || method === "add";
          const isUnaryConnect = system === "connect" && !isStream;
          const list = (messages) => messages.map((message) => shown(message, isJson));
          const body = (messages) => (isUnaryConnect ? list(messages)[0] : `[${list(messages).join(",")}]`);
          const details = [
            ...target("POST", authority, `/${SERVICE}/${name}`),
            ["request_header:x-call", mark],
            ["custom_field:http_version", httpVersion],
            ["custom_field:rpc_system", system],
            ["custom_field:rpc_service", SERVICE],
            ["custom_field:rpc_method", name],
            ["custom_field:rpc_status_code", seen.status[0]],
            ["custom_field:rpc_status", seen.status[1]],
          ];
          const requested = body(messages);
          details.push(["request_body", requested]);
          const begins = [];
          if (seen.answers.length) {
            const answered = body(seen.answers);
            // The end of a stream of Connect is the last element.
            if (system === "connect" && isStream) begins.push(["response_body", `${answered.slice(0, -1)},{`]);
            else details.push(["response_body", answered]);
          }
          if (!isUnaryConnect) {
            details.push(["custom_field:rpc_request_messages", String(messages.length)]);
            if (system !== "connect") details.push(["custom_field:rpc_response_messages", String(seen.answers.length)]);
          }
          const wanted = ["x-initial", "x-trailing", "x-why"];
          // A unary call of Connect has its trailers as headers of another name; a stream of it in its last message.
          const isTrailer = (header) => system === "connect" && header !== "x-initial" && header !== "x-why";
          for (const [header, value] of seen.headers) {
            if (wanted.includes(header)) details.push([`response_header:${isTrailer(header) ? "trailer-" : ""}${header}`, value]);
          }
          report(details, { begins, absent: ["custom_field:incomplete"] });
        };
        const unary = (method, message) => one(method, [message], async function* (options) {
          yield await client[method](message, options);
        });
        await unary("say", { text: "short", count: 7 });
        await unary("say", { text: long, count: 8 });
        await unary("fail", { text: "nothing" });
        await one("count", [{ text: "again", count: 5 }], (options) => client.count({ text: "again", count: 5 }, options));
        // A client that streams needs HTTP/2 or half-duplex HTTP/1.1, which Node has.
        const added = [{ count: 1 }, { text: long, count: 2 }, { count: 3 }];
        await one("add", added, async function* (options) {
          yield await client.add((async function* () { yield* added; })(), options);
        });
      }
    }
  }
  process.exit(0);
}

/** A client of grpc-js, without generated code: messages are octets. */
async function call_grpc_js(address) {
  const grpc = require("@grpc/grpc-js");
  const octets = (value) => value;
  const define = (name, requestStream, responseStream) => ({
    path: `/${SERVICE}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: octets,
    requestDeserialize: octets,
    responseSerialize: octets,
    responseDeserialize: octets,
  });
  const Client = grpc.makeGenericClientConstructor({
    Unary: define("Unary", false, false),
    Fail: define("Fail", false, false),
    Chat: define("Chat", true, true),
  });
  const client = new Client(address, grpc.credentials.createInsecure());
  // Field 1, a text below 128 octets.
  const encode = (text) => Buffer.concat([Buffer.from([0x0a, Buffer.byteLength(text)]), Buffer.from(text)]);
  const decode = (message) => message.subarray(2).toString();
  let number = 0;
  const finish = (method, mark, sent, received, metadata, status) => {
    const list = (texts) => JSON.stringify(texts.map((text) => ({ 1: text })));
    const details = [
      ...target("POST", address, `/${SERVICE}/${method}`),
      ["request_header:x-call", mark],
      ["request_body", list(sent)],
      ["response_code", "200"],
      ["custom_field:rpc_status_code", String(status.code)],
      ["custom_field:rpc_status", grpc.status[status.code]],
      ["custom_field:rpc_request_messages", String(sent.length)],
      ["custom_field:rpc_response_messages", String(received.length)],
    ];
    if (received.length) details.push(["response_body", list(received)]);
    for (const name of ["x-initial", "x-trailing", "x-why"]) {
      const values = [...(metadata?.get(name) ?? []), ...status.metadata.get(name)];
      for (const value of values) details.push([`response_header:${name}`, value]);
    }
    report(details, { absent: received.length ? [] : ["response_body"] });
  };
  const unary = (method, text) =>
    new Promise((resolve) => {
      const mark = `js-${number++}`;
      const metadata = new grpc.Metadata();
      metadata.set("x-call", mark);
      const received = [];
      let initial;
      const call = client[method](encode(text), metadata, (error, answer) => {
        if (answer) received.push(decode(answer));
      });
      call.on("metadata", (metadata) => (initial = metadata));
      call.on("status", (status) => {
        // The callback comes behind it.
        setImmediate(() => {
          finish(method, mark, [text], received, initial, status);
          resolve();
        });
      });
    });
  await unary("Unary", "one");
  await unary("Fail", "none");
  await Promise.all(Array.from({ length: 20 }, (_, count) => unary("Unary", `at once ${count}`)));
  await new Promise((resolve) => {
    const mark = `js-${number++}`;
    const metadata = new grpc.Metadata();
    metadata.set("x-call", mark);
    const call = client.Chat(metadata);
    const [sent, received] = [[], []];
    let initial;
    call.on("metadata", (metadata) => (initial = metadata));
    call.on("data", (answer) => {
      received.push(decode(answer));
      if (received.length === 10) call.end();
      else say();
    });
    call.on("status", (status) => {
      finish("Chat", mark, sent, received, initial, status);
      resolve();
    });
    const say = () => {
      sent.push(`turn ${sent.length}`);
      call.write(encode(sent.at(-1)));
    };
    say();
  });
  client.close();
}

const [role, ...rest] = process.argv.slice(2);
const roles = { server: serve, client: call_all, "grpc-js": call_grpc_js };
Promise.resolve(roles[role](...rest)).catch((error) => {
  console.error(error);
  process.exit(1);
});
