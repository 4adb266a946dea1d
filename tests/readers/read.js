// What readers of Node find in a text: the same as `read.py`, by JSON.parse, URLSearchParams, @fastify/busboy, and the
// multipart reader of fetch.
"use strict";

const readline = require("node:readline");
const { Busboy } = require("@fastify/busboy");

const NAME = "password";
const BOUNDARIES = ["B", "P", "Q"];

function isName(name) {
  const last = name.replaceAll("]", "").replaceAll("[", ".").replace(/\.+$/, "").split(".").at(-1);
  return bare(last) === NAME;
}

function bare(name) {
  return name.replace(/^[\s\0\ufeff]+|[\s\0\ufeff]+$/g, "").toLowerCase();
}

function walk(value, found) {
  if (value === null || typeof value !== "object") return;
  for (const [name, inside] of Object.entries(value)) {
    if (!Array.isArray(value) && bare(name) === NAME) found(name, JSON.stringify(inside));
    walk(inside, found);
  }
}

function readJson(text, found) {
  for (const body of [text, ...text.split(/\r?\n|\r/)]) {
    try {
      walk(JSON.parse(body.replace(/^\ufeff/, "")), found);
    } catch {
      // Not JSON.
    }
  }
}

function readForm(text, found) {
  // In what is no form a field may be found, but not a document in a field.
  const isForm = !/^\s*[{["-]/.test(text);
  for (const [name, value] of new URLSearchParams(text)) {
    if (isName(name)) found(name, value);
    if (isForm) inside(value, found);
  }
}

// A field may be a document of its own.
function inside(value, found) {
  readJson(value, found);
  for (const [name, text] of new URLSearchParams(value)) {
    if (isName(name)) found(name, text);
  }
}

function readBusboy(text, boundary, found) {
  return new Promise((done) => {
    let busboy;
    try {
      busboy = new Busboy({ headers: { "content-type": `multipart/form-data; boundary=${boundary}` } });
    } catch {
      return done();
    }
    const field = (name, value) => {
      if (name === undefined) return;
      if (isName(name)) found(name, value);
      inside(value, found);
    };
    busboy.on("field", field);
    busboy.on("file", (name, stream) => {
      const chunks = [];
      stream.on("data", (chunk) => chunks.push(chunk));
      stream.on("end", () => field(name, Buffer.concat(chunks).toString()));
      stream.on("error", () => {});
    });
    busboy.on("finish", done);
    busboy.on("error", done);
    busboy.end(Buffer.from(text));
    // Of a body without an end it reports none.
    let turns = 20;
    const turn = () => (turns-- > 0 ? setImmediate(turn) : done());
    turn();
  });
}

async function readFetch(text, boundary, found) {
  const headers = { "content-type": `multipart/form-data; boundary=${boundary}` };
  let form;
  try {
    form = await new Response(Buffer.from(text), { headers }).formData();
  } catch {
    return;
  }
  for (const [name, value] of form) {
    const content = typeof value === "string" ? value : await value.text();
    if (isName(name)) found(name, content);
    inside(content, found);
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { number, text } = JSON.parse(line);
    const foundBy = (reader) => (name, value) => console.log(JSON.stringify([number, reader, name, value]));
    readJson(text, foundBy("JSON.parse"));
    readForm(text, foundBy("URLSearchParams"));
    for (const boundary of BOUNDARIES) {
      if (!text.includes("--" + boundary)) continue;
      await readBusboy(text, boundary, foundBy("busboy"));
      await readFetch(text, boundary, foundBy("fetch"));
    }
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
