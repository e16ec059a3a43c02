// undici, Node's own client, with HTTP/1.1 and HTTP/2: arguments are the URLs of the listeners without and with TLS.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import { setTimeout } from "node:timers/promises";
import { Client } from "undici";

const large = Buffer.alloc(20 << 20, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
const digest = (body) => `${createHash("sha256").update(body).digest("hex")} ${body.length}`;

async function* pieces() {
  for (let at = 0; at < large.length; at += 65536) yield large.subarray(at, at + 65536);
}

async function check(base, options) {
  const client = new Client(base, options);
  let connections = 0;
  client.on("connect", () => connections++);
  const ask = async (path, more = {}) => {
    const { statusCode, body } = await client.request({ path, method: "GET", ...more });
    return { statusCode, body: Buffer.from(await body.arrayBuffer()) };
  };
  for (let i = 0; i < 20; i++) assert.equal((await ask("/")).body.toString(), "hello");
  assert.equal(connections, 1, "the connection was not kept");

  const post = async (body) => (await ask("/digest", { method: "POST", body })).body.toString();
  assert.equal(await post(large), digest(large));
  assert.equal(await post(pieces()), digest(large));
  for (const path of ["bytes", "chunks"]) {
    assert.equal(digest((await ask(`/${path}/${large.length}`)).body), digest(large));
  }
  // With HTTP/2 it breaks off a request whose answer is there before all of it was sent, and shows nobody the answer.
  if (!options.allowH2) {
    assert.equal((await ask("/early", { method: "POST", body: large })).statusCode, 413);
  }

  const gone = async () => (await ask("/gone")).body.toString();
  const before = await gone();
  const { body } = await client.request({ path: "/endless", method: "GET" });
  await body[Symbol.asyncIterator]().next();
  body.on("error", () => {});
  body.destroy();
  const deadline = Date.now() + 20000;
  while ((await gone()) === before) {
    assert(Date.now() < deadline, "the instance did not hear that the request was broken off");
    await setTimeout(50);
  }
  await client.destroy();
}

// undici does not do it; Node's older client does.
function continues(base) {
  return new Promise((resolve, reject) => {
    const headers = { Expect: "100-continue", "Content-Length": large.length };
    const request = http.request(`${base}/digest`, { method: "POST", headers });
    request.on("continue", () => request.end(large));
    request.on("error", reject);
    request.on("response", async (response) => {
      let text = "";
      for await (const piece of response) text += piece;
      resolve(text);
    });
    request.flushHeaders();
  });
}

const [web, secure] = process.argv.slice(2);
const connect = { ca: readFileSync(process.env.CA) };
await check(web, {});
assert.equal(await continues(web), digest(large));
await check(secure, { connect });
await check(secure, { connect, allowH2: true });
