// HTTP/2 of Node: a server that answers as the header `plan` of each request asks, and a client that makes plans by a seed and
// reports what it saw.
//
//   node http2.js server PORT
//   node http2.js client URL SEED SESSIONS STREAMS
//   node http2.js late URL          keeps one connection: calls of a fixed table, then more of them for each line of input
"use strict";

const http2 = require("node:http2");
const zlib = require("node:zlib");
const readline = require("node:readline");
const { seeded, target, headers, report } = require("./calls.js");

const ERRORS = { CANCEL: 8, INTERNAL_ERROR: 2, REFUSED_STREAM: 7, ENHANCE_YOUR_CALM: 11 };
const ERROR_NAMES = Object.fromEntries(Object.entries(ERRORS).map(([name, code]) => [code, name]));

function serve(port) {
  const server = http2.createServer({
    paddingStrategy: http2.constants.PADDING_STRATEGY_ALIGNED,
    settings: { headerTableSize: 64 * 1024 },
  });
  server.on("session", (session) => session.on("error", () => {}));
  server.on("stream", (stream, request) => {
    stream.on("error", () => {});
    const plan = JSON.parse(request.plan);
    let received = 0;
    stream.on("data", (data) => (received += data.length));
    if (plan.early) answer(stream, plan, received);
    else stream.on("end", () => answer(stream, plan, received));
  });
  server.listen(port, "::", () => console.error("ready"));
}

function answer(stream, plan, received) {
  if (stream.destroyed) return;
  if (plan.reset && !plan.head) return stream.close(ERRORS[plan.reset]);
  for (let count = 0; count < plan.interim; count++) stream.additionalHeaders({ ":status": 103, link: `</${count}>` });
  if (plan.pushed && stream.pushAllowed) {
    stream.pushStream({ ":path": plan.pushed, "x-pushed": "yes" }, (error, pushed) => {
      if (error) return;
      pushed.on("error", () => {});
      pushed.respond({ ":status": 200, "content-type": "text/plain" });
      pushed.end(`pushed ${plan.pushed}`);
    });
  }
  const pieces = Array.from({ length: plan.times }, (_, number) => `${number} ${plan.text}`);
  let body = Buffer.from(pieces.join(""));
  const head = { ":status": plan.status, ...plan.headers };
  if (plan.coding) {
    head["content-encoding"] = plan.coding;
    body = { gzip: zlib.gzipSync, deflate: zlib.deflateSync, br: zlib.brotliCompressSync }[plan.coding](body);
  }
  if (plan.length && plan.hasBody) head["content-length"] = body.length;
  stream.respond(head, { endStream: !plan.hasBody, waitForTrailers: plan.hasBody && plan.trailers });
  if (!plan.hasBody) return;
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-received": String(received), "x-sum": "a sum" }));
  if (plan.reset) {
    stream.write(body, () => setTimeout(() => stream.close(ERRORS[plan.reset]), 5));
    return;
  }
  // In pieces, so that the frames of several streams mix.
  let at = 0;
  const piece = () => {
    if (stream.destroyed) return;
    const end = at + plan.piece;
    if (end >= body.length) return stream.end(body.subarray(at));
    stream.write(body.subarray(at, end));
    at = end;
    setImmediate(piece);
  };
  piece();
}

/** JSON for a header. */
function ascii(value) {
  const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replace(/[^ -~]/g, escaped);
}

function planned(seed, number) {
  const status = seed.of([200, 200, 200, 200, 201, 204, 304, 404, 500]);
  const plan = {
    status,
    hasBody: status !== 204 && status !== 304,
    text: `${number}: ${seed.of(["plain text ", "with ümlauts and 漢字 ", '{"json":[1,2,3]}\n'])}`,
    times: seed.of([0, 1, 1, 3, 50, 400, seed.below(3000)]),
    piece: seed.of([1 << 20, 16384, 1000, 7000]),
    headers: { "content-type": seed.of(["text/plain", "application/json"]), "x-answer": `answer ${number}` },
    trailers: seed.chance(0.2),
    interim: seed.chance(0.15) ? 1 + seed.below(3) : 0,
    length: seed.chance(0.3),
    early: seed.chance(0.1),
  };
  // A field of each kind of index: the same in all, one of a few, and one of its own; some are larger than a frame.
  plan.headers.server = "a server of a test";
  plan.headers["x-few"] = `value ${seed.below(8)}`;
  if (seed.chance(0.1)) plan.headers["x-large"] = `${number} ${"large ".repeat(seed.below(5000))}end`;
  if (seed.chance(0.2)) plan.headers["set-cookie"] = [`a=${number}`, "b=2; Path=/"];
  // Nothing coded by Brotli is one octet that looks like text, where the header that says so is lost.
  if (seed.chance(0.2) && plan.hasBody && plan.times > 0) plan.coding = seed.of(["gzip", "deflate", "br"]);
  if (seed.chance(0.1)) plan.pushed = `/pushed/${number}`;
  return plan;
}

/** One call by a plan; resolves once its stream is closed. */
function call(session, authority, seed, number) {
  const plan = planned(seed, number);
  const method = seed.of(["GET", "GET", "POST", "PUT", "HEAD", "PURGE"]);
  const path = `/call/${number}${seed.chance(0.3) ? `?n=${number}&q=a%20b` : ""}`;
  const fields = { "x-few": `client ${seed.below(8)}`, "x-call": String(number), plan: "" };
  if (seed.chance(0.3)) fields.cookie = ["a=1", `b=${seed.below(4)}`, "c=3"];
  if (seed.chance(0.1)) fields["x-large"] = `${number} ${"large ".repeat(seed.below(5000))}end`;
  if (seed.chance(0.2)) {
    fields.authorization = `Bearer ${number}`;
    fields[http2.sensitiveHeaders] = ["authorization"];
  }
  if (method === "HEAD") plan.hasBody = false;
  const sends = method === "POST" || method === "PUT";
  const body = sends ? `sent by ${number} `.repeat(seed.below(2000)) : "";
  const isReset = seed.chance(0.08);
  if (isReset) {
    plan.early = true;
    plan.coding = undefined;
    plan.reset = seed.of(["INTERNAL_ERROR", "REFUSED_STREAM", "ENHANCE_YOUR_CALM"]);
    plan.head = plan.hasBody && seed.chance(0.5);
    plan.trailers = false;
    if (!plan.head) plan.interim = 0;
  }
  // Reset by the client itself once it has the head.
  const isCancelled = !isReset && plan.hasBody && seed.chance(0.06);
  if (isCancelled) {
    plan.coding = undefined;
    plan.times = 15_000;
  }
  fields.plan = ascii(plan);
  const withTrailers = sends && !isReset && !isCancelled && !plan.early && seed.chance(0.2);
  return new Promise((resolve) => {
    const request = session.request(
      { ":method": method, ":path": path, ...fields },
      { endStream: !sends, waitForTrailers: withTrailers },
    );
    const seen = { chunks: [], response: null, trailers: {} };
    request.on("wantTrailers", () => request.sendTrailers({ "x-request-sum": `sum ${number}` }));
    request.on("response", (response) => {
      seen.response = response;
      if (isCancelled) setTimeout(() => request.close(http2.constants.NGHTTP2_CANCEL), 2);
    });
    request.on("trailers", (trailers) => (seen.trailers = trailers));
    request.on("data", (data) => seen.chunks.push(data));
    request.on("error", () => {});
    request.on("close", () => {
      const details = [...target(method, authority, path), ...headers("request", fields)];
      if (withTrailers) details.push(["request_header:x-request-sum", `sum ${number}`]);
      const more = { absent: [], begins: [], whole: [] };
      if (seen.response) {
        details.push(["response_code", String(seen.response[":status"])]);
        details.push(...headers("response", seen.response), ...headers("response", seen.trailers));
        more.whole.push("response");
      }
      // A body that is cut may end inside of a character.
      const received = decoded(Buffer.concat(seen.chunks), plan.coding).toString().replace(/\ufffd+$/, "");
      // A reset may come too late to change anything.
      const isCut = request.rstCode !== 0;
      const side = isCut ? more.begins : details;
      if (!body) more.absent.push("request_body");
      else if (!isCut && !isReset && !plan.early) details.push(["request_body", body]);
      if (received.length) side.push(["response_body", received]);
      else if (!isCut) more.absent.push("response_body");
      if (isCut) {
        details.push(["custom_field:reset", ERROR_NAMES[request.rstCode]]);
        details.push(["custom_field:reset_by", isReset ? "server" : "client"]);
        if (!seen.response) {
          details.push(["custom_field:half", request.rstCode === ERRORS.REFUSED_STREAM ? "refused" : "reset"]);
          more.absent.push("response_code");
        } else details.push(["custom_field:incomplete", "true"]);
      } else if (!plan.early && !isReset) more.absent.push("custom_field:incomplete", "custom_field:half", "custom_field:reset");
      report(details, more);
      resolve();
    });
    if (sends) request.end(body);
  });
}

function decoded(body, coding) {
  if (!body.length) return body;
  return { gzip: zlib.gunzipSync, deflate: zlib.inflateSync, br: zlib.brotliDecompressSync }[coding]?.(body) ?? body;
}

function connect(url, options) {
  return new Promise((resolve, reject) => {
    const session = http2.connect(url, options);
    session.once("connect", () => resolve(session));
    session.once("error", reject);
  });
}

function pushes(session) {
  session.on("stream", (pushed, request) => {
    const chunks = [];
    let response;
    pushed.on("push", (head) => (response = head));
    pushed.on("data", (data) => chunks.push(data));
    pushed.on("error", () => {});
    pushed.on("close", () => {
      const details = [...target(request[":method"], request[":authority"], request[":path"]), ...headers("request", request)];
      if (response) details.push(["response_code", String(response[":status"])], ...headers("response", response));
      details.push(["response_body", Buffer.concat(chunks).toString()], ["custom_field:pushed", "true"]);
      report(details, { whole: ["request", "response"] });
    });
  });
}

async function call_all(url, seed, sessions, streams) {
  const { host } = new URL(url);
  let number = 0;
  for (let count = 0; count < sessions; count++) {
    const session = await connect(url, {
      paddingStrategy: seed.of([0, http2.constants.PADDING_STRATEGY_MAX, http2.constants.PADDING_STRATEGY_ALIGNED]),
      maxSendHeaderBlockLength: 1 << 20,
      settings: {
        headerTableSize: seed.of([0, 100, 4096, 65536]),
        enablePush: seed.chance(0.7),
        initialWindowSize: seed.of([65535, 1000, 1 << 20]),
        maxFrameSize: seed.of([16384, 65536]),
      },
    });
    session.on("error", () => {});
    pushes(session);
    const closed = new Promise((resolve) => session.once("close", resolve));
    const open = new Set();
    for (let stream = 0; stream < streams; stream++) {
      const made = call(session, host, seed, number++);
      open.add(made);
      made.then(() => open.delete(made));
      if (open.size >= seed.of([1, 5, 20, 60])) await Promise.race(open);
      if (seed.chance(0.05)) session.ping(() => {});
      if (seed.chance(0.02)) session.settings({ headerTableSize: seed.of([0, 200, 4096]) });
    }
    await Promise.all(open);
    session.close();
    await closed;
  }
}

/** Calls with fields that are in the table after the first round; a line of input is a round. */
async function call_late(url) {
  const { host } = new URL(url);
  const session = await connect(url, {});
  const plan = { status: 200, hasBody: true, text: "late ", times: 3, piece: 99, headers: { "x-same": "always the same" } };
  let number = 0;
  const one = (path, fields) =>
    new Promise((resolve) => {
      const request = session.request({ ":method": "GET", ":path": path, plan: ascii(plan), ...fields });
      let response;
      const chunks = [];
      request.on("response", (head) => (response = head));
      request.on("data", (data) => chunks.push(data));
      request.on("close", () => {
        const all = [...target("GET", host, path), ...headers("request", fields), ...headers("response", response)];
        all.push(["response_code", "200"], ["response_body", Buffer.concat(chunks).toString()]);
        report(all, {});
        resolve();
      });
      request.end();
    });
  const round = async () => {
    await one("/always", { "x-secret": "of the table" });
    await one(`/new/${number++}`, { "x-secret": "of the table", "x-new": `new ${number}` });
    console.error(`round ${number}`);
  };
  await round();
  for await (const _line of readline.createInterface({ input: process.stdin })) await round();
  session.close();
}

const [role, where, seed, sessions, streams] = process.argv.slice(2);
if (role === "server") serve(Number(where));
else if (role === "client") call_all(where, seeded(Number(seed)), Number(sessions), Number(streams));
else call_late(where);
