// Bytes that mean nothing: decoders throw a ProtocolError, and nothing else, and come to an end.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { ProtocolError } from "../dist/error.js";
import { decodeInputs } from "../dist/inputs.js";
import { decodeClient, decodeServer } from "../dist/messages.js";
import { SnapshotReceiver } from "../dist/snapshot.js";
import { Framer, MAX_MESSAGE } from "../dist/wire.js";
import { generator, golden, parts } from "./support.mjs";

const SAMPLES = readdirSync(new URL("../../../schema/golden/protocol/", import.meta.url))
  .filter((name) => name.endsWith(".bin") && !name.startsWith("arena-"))
  .map((name) => golden(`protocol/${name}`));
const [WELCOME, ...STREAM] = parts(golden("snapshots/lossy.bin"));
const [, ...RANGED] = parts(golden("snapshots/lossy-range.bin"));
const SCHEMA = decodeServer(new Framer().push(WELCOME)[0]).schema;

/** True if it was decoded. */
function tries(decode) {
  try {
    decode();
    return true;
  } catch (error) {
    assert.ok(error instanceof ProtocolError, `${error.stack}`);
    return false;
  }
}

/** A few flips, a cut, or something behind the end. */
function spoil(bytes, below) {
  const out = [...bytes];
  for (let flips = below(4); flips > 0 && out.length > 0; flips -= 1) {
    out[below(out.length)] ^= 1 << below(8);
  }
  const kind = below(4);
  if (kind === 0) out.length = below(out.length + 1);
  if (kind === 1) out.push(below(256));
  if (kind === 2 && out.length > 8) out.splice(below(out.length), 0, 0xff, 0xff, 0xff, 0xff);
  return Uint8Array.from(out);
}

test("spoilt messages are refused or are other messages", () => {
  const below = generator(1);
  let refused = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const bytes = spoil(SAMPLES[round % SAMPLES.length], below);
    const decode = [decodeServer, decodeClient, decodeInputs][below(3)];
    // With and without the length in front.
    const message = below(2) === 0 ? bytes : bytes.subarray(4);
    refused += tries(() => decode(message)) ? 0 : 1;
    tries(() => new Framer().push(bytes));
  }
  assert.ok(refused > 10_000, `${refused} of 20,000`);
});

test("noise is no snapshot", () => {
  const below = generator(2);
  let decoded = 0;
  for (let round = 0; round < 4000; round += 1) {
    const bytes = Uint8Array.from({ length: below(400) }, () => below(256));
    bytes[0] = (round % 2 ? 0x10 : 0x30) | (bytes[0] & 0x0f);
    decoded += tries(() => new SnapshotReceiver(SCHEMA).receive(bytes)) ? 1 : 0;
  }
  assert.ok(decoded < 400, `${decoded} of 4,000`);
});

test("a receiver goes on after spoilt snapshots, with what it had", () => {
  const below = generator(3);
  for (let round = 0; round < 30; round += 1) {
    const [plain, annoyed] = [new SnapshotReceiver(SCHEMA), new SnapshotReceiver(SCHEMA)];
    for (const datagram of STREAM.slice(0, 60)) {
      const cut = datagram.subarray(0, below(datagram.length));
      assert.equal(tries(() => annoyed.receive(cut)), false);
      let expected;
      if (!tries(() => (expected = plain.receive(datagram)))) continue;
      assert.deepEqual(annoyed.receive(datagram), expected);
    }
  }
});

test("spoilt range coded snapshots are refused or say something else, and come to an end", () => {
  const below = generator(5);
  const receiver = new SnapshotReceiver(SCHEMA);
  let refused = 0;
  for (const datagram of RANGED) {
    for (let round = 0; round < 20; round += 1) {
      const victim = new SnapshotReceiver(SCHEMA);
      Object.assign(victim, receiver, {
        states: new Map(receiver.states),
        seen: new Set(receiver.seen),
      });
      refused += tries(() => victim.receive(spoil(datagram, below))) ? 0 : 1;
    }
    tries(() => receiver.receive(datagram));
  }
  assert.ok(receiver.newest > 100 && refused > 500, `tick ${receiver.newest}, ${refused} refused`);
});

test("a message that announces too much ends the stream", () => {
  const bytes = Uint8Array.of(1, 0, 1, 0);
  assert.equal(MAX_MESSAGE, 65_536);
  assert.throws(() => new Framer().push(bytes), ProtocolError);
});

test("messages are found however the stream is cut", () => {
  const below = generator(4);
  const all = Buffer.concat([...SAMPLES.slice(0, 4), WELCOME]);
  for (let round = 0; round < 50; round += 1) {
    const framer = new Framer();
    let found = 0;
    for (let at = 0; at < all.length; ) {
      const end = Math.min(all.length, at + 1 + below(40));
      tries(() => (found += framer.push(new Uint8Array(all.subarray(at, end))).length));
      at = end;
    }
    assert.equal(new Framer().push(WELCOME).length, 1);
    assert.ok(found >= 0);
  }
});
