// What several tests share: golden files, a seeded generator, a world with a time of its own.
import { readFileSync } from "node:fs";
import { connect } from "../dist/index.js";
import { decodeClient, encodeServer } from "../dist/messages.js";
import { Framer } from "../dist/wire.js";

const GOLDEN = new URL("../../../schema/golden/", import.meta.url);

export const golden = (name) => new Uint8Array(readFileSync(new URL(name, GOLDEN)));
export const goldenJson = (name) => JSON.parse(readFileSync(new URL(name, GOLDEN), "utf8"));
export const hex = (bytes) => Buffer.from(bytes).toString("hex");

/** Byte strings behind their lengths. */
export function parts(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    found.push(bytes.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return found;
}

/** Whole numbers below n, the same for the same seed. */
export function generator(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) % n;
  };
}

/** A time that only moves when it is told to. */
export class Time {
  now = 1000;
  #timers = [];
  #count = 0;

  after(ms, run) {
    const timer = { at: this.now + ms, order: this.#count++, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Runs what is due within so many milliseconds; promises settle between. */
  async advance(ms) {
    const end = this.now + ms;
    for (;;) {
      for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
      const [next] = this.#timers.sort((a, b) => a.at - b.at || a.order - b.order);
      if (!next || next.at > end) break;
      this.#timers.shift();
      this.now = Math.max(this.now, next.at);
      next.run();
    }
    this.now = end;
  }
}

export const SCHEMA = {
  components: [
    {
      name: "place",
      fields: [{ name: "x", kind: { type: "float", min: 0, max: 255, bits: 8 }, rate: undefined }],
    },
  ],
  position: undefined,
};

/** A full snapshot without entities. */
export function emptySnapshot(tick, { epoch = 1, applied = [] } = {}) {
  const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]);
  const head = [0x11, applied.length, ...varint(epoch), ...varint(tick), 30];
  let last = 0;
  for (const { seq, tick: at } of applied) {
    head.push(...varint((seq - last) * 2), ...varint((tick - at) * 2));
    last = seq;
  }
  return Uint8Array.from([...head, 0]);
}

/** Nodes that a test plays by hand, and a client's way to them. */
export class World {
  time = new Time();
  /** Connections, oldest first. */
  lines = [];
  /** Addresses where nobody answers. */
  dead = new Set();
  /** Addresses whose handshakes never end. */
  mute = new Set();
  /** The versions of the protocol that nodes say they speak. */
  protocols = [4];

  environment() {
    return {
      now: () => this.time.now,
      after: (ms, run) => this.time.after(ms, run),
      random: () => 0.5,
      edge: async () => ({
        protocols: this.protocols,
        node: "n1",
        websocket: { url: "ws://n1.test:1/rekindle/4", protocol: "rekindle.4", datagrams: false },
        games: ["arena"],
        guest: true,
      }),
      open: (target, events) => this.#open(target, events),
    };
  }

  #open({ address }, events) {
    const line = new FakeLine(address, events, this);
    this.lines.push(line);
    this.time.after(5, () => {
      if (line.over || this.mute.has(address)) return;
      if (this.dead.has(address)) return line.die("nobody answers");
      line.isOpen = true;
      events.opened();
    });
    return {
      kind: "websocket",
      send: (bytes) => line.take(bytes),
      datagram: (bytes) => line.datagrams.push(bytes),
      close: () => {
        line.over = true;
        line.closedByClient = true;
      },
    };
  }

  /** The newest connection to an address that is open. */
  at(address) {
    return this.lines.findLast((line) => line.address === address && line.isOpen && !line.over);
  }
}

class FakeLine {
  isOpen = false;
  over = false;
  closedByClient = false;
  said = [];
  datagrams = [];
  #framer = new Framer();

  constructor(address, events, world) {
    this.address = address;
    this.events = events;
    this.world = world;
  }

  take(bytes) {
    for (const message of this.#framer.push(bytes)) this.said.push(decodeClient(message));
  }

  tell(message) {
    if (!this.over) this.events.stream(encodeServer(message));
  }

  welcome(more = {}) {
    this.tell({
      type: "welcome",
      match: 9n,
      game: "arena",
      epoch: 1,
      tick: 100,
      tickRate: 30,
      player: 7n,
      session: 3n,
      resumed: false,
      resumeToken: "token",
      nextInput: 1,
      nextCommand: 1,
      schema: SCHEMA,
      config: new Uint8Array(),
      ...more,
    });
  }

  snapshot(tick, more) {
    if (!this.over) this.events.datagram(emptySnapshot(tick, more));
  }

  die(reason = "the connection broke", refusal = undefined) {
    if (this.over) return;
    this.over = true;
    this.events.closed({ refusal, reason });
  }
}

/** Addresses of two nodes. */
export const [N1, N2] = ["n1.test:1", "n2.test:1"];
const TYPES = ["welcome", "resumed", "moved", "snapshot", "event", "rewound", "eventsMissed",
  "disconnected", "ended", "closed", "commandDone"];

/** A client whose first connection is open. */
export async function begun(protocols = [4], more = {}) {
  const world = new World();
  world.protocols = protocols;
  const session = connect({
    edge: "http://n1.test:1",
    ticket: "ticket",
    environment: world.environment(),
    ...more,
  });
  const told = [];
  for (const type of TYPES) session.on(type, (event) => told.push(event));
  await world.time.advance(50);
  return { world, session, told, types: () => told.map(({ type }) => type) };
}

/** The same, welcome and shown three ticks; `protocols`: what nodes say they speak. */
export async function playing(protocols, more) {
  const all = await begun(protocols, more);
  all.world.at(N1).welcome();
  all.world.at(N1).tell({ type: "nodes", addresses: [N1, N2] });
  for (let tick = 101; tick < 104; tick += 1) {
    all.world.at(N1).snapshot(tick);
    await all.world.time.advance(33);
  }
  return all;
}
