// Which carrier a client ends up with, whatever fails and in whatever order.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HEAD_START_MS, openEither } from "../dist/carrier/either.js";
import { webSocketCarrier } from "../dist/carrier/websocket.js";
import { Time } from "./support.mjs";

const TARGET = {
  address: "node:7777",
  webtransport: { url: "https://node:7777/rekindle/4", hashes: [] },
  websocket: { url: "ws://node:7777/rekindle/4", protocol: "rekindle" },
};

/** Opens a target whose carriers do what the test says. */
function opened(ways = ["webtransport", "websocket"], target = TARGET) {
  const time = new Time();
  const found = { time, told: [], tried: {}, closed: [] };
  const way = (kind) =>
    ways.includes(kind)
      ? (_, events) => {
          found.tried[kind] = events;
          return { kind, send: () => undefined, datagram: () => undefined, close: () => found.closed.push(kind) };
        }
      : undefined;
  const tell = (what) => (value) => found.told.push([what, value?.reason ?? value]);
  const events = Object.fromEntries(
    ["opened", "stream", "datagram", "closed"].map((what) => [what, tell(what)]),
  );
  const both = { webtransport: way("webtransport"), websocket: way("websocket") };
  found.carrier = openEither(both, (ms, run) => time.after(ms, run), target, events);
  return found;
}

test("WebTransport is taken if it opens within its head start, and nothing else is tried", async () => {
  const { time, told, tried, carrier } = opened();
  await time.advance(HEAD_START_MS - 1);
  tried.webtransport.opened();
  await time.advance(10 * HEAD_START_MS);
  assert.deepEqual([Object.keys(tried), told, carrier.kind], [["webtransport"], [["opened", undefined]], "webtransport"]);
});

test("WebSocket is tried at once where WebTransport fails, and beside it where that takes long", async () => {
  const failing = opened();
  failing.tried.webtransport.closed({ refusal: undefined, reason: "no way" });
  failing.tried.websocket.opened();
  assert.deepEqual([failing.told, failing.carrier.kind], [[["opened", undefined]], "websocket"]);
  const slow = opened();
  await slow.time.advance(HEAD_START_MS);
  slow.tried.websocket.opened();
  // It comes too late: it is closed, and what it says is not heard.
  slow.tried.webtransport.opened();
  slow.tried.webtransport.stream(new Uint8Array(1));
  slow.tried.webtransport.closed({ refusal: 1, reason: "late" });
  assert.deepEqual([slow.told, slow.closed], [[["opened", undefined]], ["webtransport"]]);
});

test("the end is told once, when all ways have failed", async () => {
  const { time, told, tried } = opened();
  tried.webtransport.closed({ refusal: undefined, reason: "blocked" });
  assert.deepEqual(told, []);
  tried.websocket.closed({ refusal: undefined, reason: "refused" });
  await time.advance(1);
  assert.deepEqual(told, [["closed", "refused"]]);
  const neither = opened([]);
  assert.deepEqual(neither.told, [], "not before the caller has the carrier");
  await neither.time.advance(1);
  assert.deepEqual(neither.told, [["closed", "no carrier that both sides have"]]);
});

test("a node without WebTransport, and a browser without it, are reached by WebSocket", () => {
  for (const found of [opened(["websocket"]), opened(undefined, { ...TARGET, webtransport: undefined })]) {
    assert.deepEqual(Object.keys(found.tried), ["websocket"]);
  }
});

test("who closes hears nothing more", async () => {
  const { time, told, tried, closed, carrier } = opened();
  carrier.close();
  tried.webtransport.opened();
  await time.advance(10 * HEAD_START_MS);
  assert.deepEqual([told, closed, Object.keys(tried)], [[], ["webtransport"], ["webtransport"]]);
});

/** A WebSocket of which the test plays the other side. */
class Socket {
  static last;
  sent = [];
  bufferedAmount = 0;
  readyState = 1;
  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    Socket.last = this;
  }
  send(bytes) {
    this.sent.push([...bytes]);
  }
  close(code, reason) {
    this.ended = [code, reason];
  }
  hears(...bytes) {
    this.onmessage({ data: Uint8Array.from(bytes).buffer });
  }
}

test("over WebSocket the first byte says what a message is, and a full queue takes no datagram", () => {
  const told = [];
  const tell = (what) => (value) => told.push([what, value instanceof Uint8Array ? [...value] : value]);
  const events = Object.fromEntries(
    ["opened", "stream", "datagram", "closed"].map((what) => [what, tell(what)]),
  );
  const carrier = webSocketCarrier(Socket)(TARGET, events);
  const socket = Socket.last;
  assert.deepEqual([socket.url, socket.protocol], [TARGET.websocket.url, "rekindle"]);
  socket.onopen({});
  carrier.send(Uint8Array.of(7, 8));
  carrier.datagram(Uint8Array.of(9));
  socket.bufferedAmount = 1 << 20;
  carrier.datagram(Uint8Array.of(10));
  assert.deepEqual(socket.sent, [[0, 7, 8], [1, 9]]);
  socket.hears(0, 1, 2);
  socket.hears(1, 3);
  socket.hears(5, 4);
  assert.equal(socket.ended[0], 4009, "neither");
  socket.onclose({ code: 4003, reason: "full" });
  assert.deepEqual(told, [
    ["opened", undefined],
    ["stream", [1, 2]],
    ["datagram", [3]],
    ["closed", { refusal: 3, reason: "full" }],
  ]);
});
