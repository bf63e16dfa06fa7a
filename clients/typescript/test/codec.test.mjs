import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeInputs, encodeInputs } from "../dist/inputs.js";
import { decodeClient, decodeServer, encodeClient, encodeServer } from "../dist/messages.js";
import { SnapshotReceiver } from "../dist/snapshot.js";
import { Framer } from "../dist/wire.js";
import { golden, goldenJson, hex, parts } from "./support.mjs";

const body = (name) => {
  const [message] = new Framer().push(golden(`protocol/${name}.bin`));
  return message;
};
const TOKEN = "v4.public.sample";
const MATCH = 0x7f3a91c200000001n;
const HASH = new Uint8Array(32).fill(0x5a);
const resume = { type: "resume", token: TOKEN };
const hello = (protocol) => ({ protocol, role: "player", credential: resume, match: MATCH });
const stood = { epoch: 2, tick: 1003, beats: [{ tick: 990, hash: HASH }] };
const enter = { game: "arena", stood };

const CLIENT = {
  hello: {
    type: "hello",
    ...hello(1),
    credential: { type: "ticket", token: TOKEN },
    match: undefined,
  },
  "hello-resume": { type: "hello", ...hello(1) },
  enter: { type: "enter", ...hello(2), ...enter },
  arrive: {
    type: "arrive",
    ...hello(3),
    ...enter,
    heard: { tick: 991, ordinal: 2 },
    redirects: 1,
  },
  wait: { type: "wait", ...hello(4) },
  seek: {
    type: "seek",
    ...hello(6),
    credential: { type: "ticket", token: TOKEN },
    match: undefined,
    game: "arena",
    stood: undefined,
    heard: undefined,
    redirects: 1,
    properties: { map: "old", mode: "duel" },
    create: true,
  },
  documents: {
    type: "documents",
    id: 3,
    kind: "profile",
    json: '{"calls":[{"action":"buy","key":"7","args":{"item":"hat","price":9}}]}',
  },
  command: { type: "command", seq: 1, payload: Uint8Array.of(2, 1) },
  bye: { type: "bye" },
};

const SERVER = {
  standby: { type: "standby", address: "192.0.2.8:4433" },
  here: { type: "here", match: MATCH, epoch: 3 },
  "documents-done": {
    type: "documents",
    id: 3,
    done: true,
    json: '{"done":[{"key":"7","version":5}]}',
  },
  refused: { type: "refused", code: "full", message: "the match has no room" },
  "command-done": { type: "commandDone", seq: 3, tick: 1004, accepted: true },
  beat: { type: "beat", tick: 1020, hash: HASH },
  event: { type: "event", tick: 1003, ordinal: 0, kind: "kill", payload: Uint8Array.of(7, 9) },
  rewound: { type: "rewound", epoch: 3, to: 990 },
  redirect: { type: "redirect", address: "192.0.2.7:4433" },
  ended: { type: "ended", reason: "time is up" },
  nodes: { type: "nodes", addresses: ["192.0.2.7:4433", "192.0.2.8:4433"] },
  "events-missed": { type: "eventsMissed", from: 991, to: 1003 },
};

for (const [name, message] of Object.entries(CLIENT)) {
  test(`${name}.bin is what a client says`, () => {
    assert.equal(hex(encodeClient(message)), hex(golden(`protocol/${name}.bin`)));
    assert.deepEqual(decodeClient(body(name)), message);
  });
}

for (const [name, message] of Object.entries(SERVER)) {
  test(`${name}.bin is what a server says`, () => {
    assert.deepEqual(decodeServer(body(name)), message);
    assert.equal(hex(encodeServer(message)), hex(golden(`protocol/${name}.bin`)));
  });
}

test("welcome.bin has the sample's fields, and is written back bit for bit", () => {
  const welcome = decodeServer(body("welcome"));
  const { schema, ...rest } = welcome;
  assert.deepEqual(rest, {
    type: "welcome",
    match: MATCH,
    game: "arena",
    epoch: 2,
    tick: 1000,
    tickRate: 30,
    player: 7n,
    session: 0xabcdef0123456789n,
    resumed: true,
    resumeToken: TOKEN,
    nextInput: 41,
    nextCommand: 3,
    config: Uint8Array.of(9, 9),
  });
  assert.deepEqual(
    schema.components.map(({ name, fields }) => [name, fields.map((field) => field.name)]),
    [
      ["position", ["x", "y"]],
      ["velocity", ["x", "y"]],
      ["fighter", ["aim", "health", "firing"]],
    ],
  );
  assert.deepEqual(schema.components[0].fields[0].kind, {
    type: "float",
    min: -64,
    max: 63.9921875,
    bits: 14,
  });
  assert.equal(hex(encodeServer(welcome)), hex(golden("protocol/welcome.bin")));
});

test("inputs.bin and acknowledgement.bin are what a client sends", () => {
  const ack = { tick: 1003, bits: 5, clock: 123_490 };
  const input = (seq, target, view, ...payload) => ({
    seq,
    target,
    view,
    payload: Uint8Array.from(payload),
  });
  const inputs = [
    input(302, 1006, 1000, 1, 2, 3),
    input(303, 1007, 1001, 1, 2, 4),
    input(304, 1008, 1002, 1, 2, 4),
  ];
  for (const [name, packet] of [
    ["inputs", { ...ack, inputs }],
    ["acknowledgement", { ...ack, inputs: [] }],
  ]) {
    const sample = golden(`protocol/${name}.bin`);
    assert.deepEqual(decodeInputs(sample), packet);
    assert.equal(hex(encodeInputs(packet)), hex(sample));
  }
});

test("the sample snapshots say what the document says", () => {
  const { schema } = decodeServer(body("welcome"));
  const receiver = new SnapshotReceiver(schema);
  const first = receiver.receive(golden("protocol/snapshot-full.bin"));
  const rows = ({ view }) =>
    view.entities.map((entity) => [entity.slot, entity.generation, [...entity.row]]);
  assert.deepEqual(rows(first), [
    [0, 1, [8192, 8192, 312, 256, 128, 100, 0]],
    [1, 1, [4000, 9000, 256, 256, 7, 80, 1]],
    [4, 3, [8300, 8200, 416, 256, 0, 0, 0]],
  ]);
  assert.deepEqual(
    { ...first.header },
    {
      epoch: 2,
      tick: 1000,
      durable: 1001,
      applied: [],
      echo: 0,
      held: 0,
      nextInput: 41,
      avatar: 0,
    },
  );
  const second = receiver.receive(golden("protocol/snapshot-delta.bin"));
  assert.deepEqual(rows(second), [
    [0, 1, [8273, 8188, 302, 249, 131, 91, 0]],
    [1, 1, [4000, 9000, 256, 256, 7, 80, 1]],
    [5, 12, [8100, 8192, 256, 416, 0, 0, 0]],
  ]);
  assert.deepEqual(second.header.applied, [
    { seq: 299, tick: 1001 },
    { seq: 300, tick: 1002 },
    { seq: 301, tick: 1003 },
  ]);
  assert.deepEqual([second.header.echo, second.header.held], [123_456, 12]);
  assert.deepEqual(receiver.acknowledgement(), { tick: 1003, bits: 0b100 });
});

test("the range coded sample says the same as the other", () => {
  const { schema } = decodeServer(body("welcome"));
  const views = ["delta", "range"].map((name) => {
    const receiver = new SnapshotReceiver(schema);
    receiver.receive(golden("protocol/snapshot-full.bin"));
    const { view, header } = receiver.receive(golden(`protocol/snapshot-${name}.bin`));
    return { view, header };
  });
  assert.deepEqual(views[1], views[0]);
});

function checksum(view) {
  let hash = 0x811c9dc5;
  for (const { slot, generation, components, stamp, row } of view.entities) {
    for (const word of [slot, generation, components, stamp, ...row]) {
      for (let shift = 0; shift < 32; shift += 8) {
        hash = Math.imul(hash ^ ((word >>> shift) & 0xff), 0x01000193);
      }
    }
  }
  return hash >>> 0;
}

for (const name of ["lossy", "narrow", "lossy-range", "narrow-range"]) {
  test(`the recorded stream ${name} is decoded bit for bit`, () => {
    const [welcome, ...datagrams] = parts(golden(`snapshots/${name}.bin`));
    const expected = goldenJson(`snapshots/${name}.json`);
    const receiver = new SnapshotReceiver(decodeServer(new Framer().push(welcome)[0]).schema);
    assert.equal(datagrams.length, expected.length);
    let [views, partial] = [0, 0];
    for (const [index, datagram] of datagrams.entries()) {
      const wanted = expected[index];
      if (wanted === null) {
        assert.throws(() => receiver.receive(datagram), { name: "ProtocolError" });
        continue;
      }
      const { header, view, complete } = receiver.receive(datagram);
      views += 1;
      partial += complete ? 0 : 1;
      if (wanted.entities) {
        assert.deepEqual(
          view.entities.map((entity) => [
            entity.slot,
            entity.generation,
            entity.components,
            entity.stamp,
            [...entity.row],
          ]),
          wanted.entities,
        );
      }
      assert.deepEqual(
        [header.epoch, header.tick, complete, view.entities.length, checksum(view)],
        [wanted.epoch, wanted.tick, wanted.complete, wanted.count, wanted.checksum],
        `datagram ${index}`,
      );
    }
    assert.ok(views > 60 && (name.startsWith("lossy") || partial > 60), `${views} views, ${partial} partial`);
  });
}
