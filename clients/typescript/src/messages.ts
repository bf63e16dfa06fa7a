/** Messages of the stream (docs/PROTOCOL.md, section 3). */
import { ProtocolError } from "./error.js";
import { readSchema, writeSchema, type Schema } from "./schema.js";
import { framed, Reader, Writer } from "./wire.js";

/** The version of the protocol that browsers speak. */
export const PROTOCOL = 4;
/** The version of clients that read range coded snapshots; it has the messages of version 4. */
export const PROTOCOL_5 = 5;
/** The version of clients that may look for a match by its properties, and ask documents. */
export const PROTOCOL_6 = 6;
/** Most redirects in a row that are followed. */
export const MAX_REDIRECTS = 4;
/** Most beats that a client tells a server. */
export const MAX_STOOD_BEATS = 8;

const CLIENT_TAG = 0x4001;
const SERVER_TAG = 0x4101;

export type Role = "player" | "spectator";

/** What lets a client in. */
export type Credential =
  | { readonly type: "ticket"; readonly token: string }
  | { readonly type: "resume"; readonly token: string };

/** Why a server refuses; the number is its place. */
export const REFUSALS = [
  "protocol",
  "credential",
  "no-match",
  "full",
  "ended",
  "unavailable",
  "rate-limited",
  "draining",
  "superseded",
  "malformed",
  "overloaded",
  "removed",
] as const;

export type Refusal = (typeof REFUSALS)[number];

/** Whether trying again may help: here or at another node. */
export function isTemporary(code: Refusal): boolean {
  return (
    code === "unavailable" ||
    code === "rate-limited" ||
    code === "draining" ||
    code === "overloaded"
  );
}

/** The hash of a match after a tick. */
export interface Beat {
  readonly tick: number;
  /** 32 bytes. */
  readonly hash: Uint8Array;
}

/** Where a client stood, for a server that it comes back to. */
export interface Stood {
  readonly epoch: number;
  readonly tick: number;
  /** Newest first. */
  readonly beats: readonly Beat[];
}

/** How far events were told: all before `tick`, and of `tick` those before `ordinal`. */
export interface Heard {
  readonly tick: number;
  readonly ordinal: number;
}

/** Who wants in, and where to. */
export interface Hello {
  readonly protocol: number;
  readonly role: Role;
  readonly credential: Credential;
  readonly match: bigint | undefined;
}

export interface Enter extends Hello {
  readonly game: string | undefined;
  readonly stood: Stood | undefined;
}

export interface Arrive extends Enter {
  readonly heard: Heard | undefined;
  readonly redirects: number;
}

/** Who wants into a match by its properties. */
export interface Seek extends Arrive {
  /** The match has all of them. */
  readonly properties: Readonly<Record<string, string>>;
  /** If no match with them has a free seat, one is to be made. */
  readonly create: boolean;
}

export type ClientMessage =
  | ({ readonly type: "hello" } & Hello)
  | { readonly type: "command"; readonly seq: number; readonly payload: Uint8Array }
  | { readonly type: "bye" }
  | ({ readonly type: "enter" } & Enter)
  | ({ readonly type: "arrive" } & Arrive)
  | ({ readonly type: "wait" } & Hello)
  | ({ readonly type: "seek" } & Seek)
  | {
      readonly type: "documents";
      readonly id: number;
      readonly kind: string;
      /** What is asked, as JSON. */
      readonly json: string;
    };

export interface Welcome {
  readonly match: bigint;
  readonly game: string;
  readonly epoch: number;
  /** The newest tick that was published. */
  readonly tick: number;
  /** Ticks per second. */
  readonly tickRate: number;
  readonly player: bigint;
  /** 0 for spectators. */
  readonly session: bigint;
  /** The session was there already. */
  readonly resumed: boolean;
  readonly resumeToken: string;
  readonly nextInput: number;
  readonly nextCommand: number;
  readonly schema: Schema;
  /** The game's configuration of this match, in the game's encoding. */
  readonly config: Uint8Array;
}

export type ServerMessage =
  | ({ readonly type: "welcome" } & Welcome)
  | { readonly type: "refused"; readonly code: Refusal; readonly message: string }
  | {
      readonly type: "commandDone";
      readonly seq: number;
      readonly tick: number;
      readonly accepted: boolean;
    }
  | ({ readonly type: "beat" } & Beat)
  | {
      readonly type: "event";
      readonly tick: number;
      readonly ordinal: number;
      readonly kind: string;
      readonly payload: Uint8Array;
    }
  | { readonly type: "rewound"; readonly epoch: number; readonly to: number }
  | { readonly type: "redirect"; readonly address: string }
  | { readonly type: "ended"; readonly reason: string }
  | { readonly type: "nodes"; readonly addresses: readonly string[] }
  | { readonly type: "eventsMissed"; readonly from: number; readonly to: number }
  | { readonly type: "standby"; readonly address: string | undefined }
  | { readonly type: "here"; readonly match: bigint; readonly epoch: number }
  | {
      readonly type: "documents";
      /** The client's number for what it asked. */
      readonly id: number;
      readonly done: boolean;
      /** The answer; of what was not done, an object with `code` and `message`. */
      readonly json: string;
    };

function putHello(writer: Writer, hello: Hello): void {
  writer.uint(hello.protocol).uint(hello.role === "player" ? 0 : 1);
  writer.uint(hello.credential.type === "ticket" ? 0 : 1).string(hello.credential.token);
  writer.option(hello.match, (match) => writer.uint(match));
}

function putEnter(writer: Writer, enter: Enter): void {
  putHello(writer, enter);
  writer.option(enter.game, (game) => writer.string(game));
  writer.option(enter.stood, ({ epoch, tick, beats }) => {
    writer.uint(epoch).uint(tick);
    writer.list(beats, (beat) => writer.uint(beat.tick).raw(beat.hash));
  });
}

function putArrive(writer: Writer, arrive: Arrive): void {
  putEnter(writer, arrive);
  writer.option(arrive.heard, ({ tick, ordinal }) => writer.uint(tick).uint(ordinal));
  writer.u8(arrive.redirects);
}

/** A message as it stands on the stream, its length in front. */
export function encodeClient(message: ClientMessage): Uint8Array {
  const writer = new Writer().u16le(CLIENT_TAG);
  switch (message.type) {
    case "hello":
      putHello(writer.uint(0), message);
      break;
    case "command":
      writer.uint(1).uint(message.seq).blob(message.payload);
      break;
    case "bye":
      writer.uint(2);
      break;
    case "enter":
      putEnter(writer.uint(3), message);
      break;
    case "arrive":
      putArrive(writer.uint(4), message);
      break;
    case "wait":
      putHello(writer.uint(5), message);
      break;
    case "seek":
      putArrive(writer.uint(6), message);
      writer.list(Object.entries(message.properties), ([name, value]) =>
        writer.string(name).string(value),
      );
      writer.u8(message.create ? 1 : 0);
      break;
    case "documents":
      writer.uint(7).uint(message.id).string(message.kind).string(message.json);
      break;
  }
  return framed(writer.finish());
}

function body(message: Uint8Array, tag: number): Reader {
  const reader = new Reader(message);
  const found = reader.u16le();
  if (found !== tag) throw new ProtocolError(`a message with tag ${found.toString(16)}`);
  return reader;
}

function variant<T>(reader: Reader, names: readonly T[]): T {
  const number = reader.int();
  const name = names[number];
  if (name === undefined) throw new ProtocolError(`${number} where at most ${names.length - 1} is`);
  return name;
}

function readHello(reader: Reader): Hello {
  return {
    protocol: reader.int(0xffff),
    role: variant(reader, ["player", "spectator"] as const),
    credential: {
      type: variant(reader, ["ticket", "resume"] as const),
      token: reader.string(),
    },
    match: reader.option(() => reader.u64()),
  };
}

function readEnter(reader: Reader): Enter {
  return {
    ...readHello(reader),
    game: reader.option(() => reader.string()),
    stood: reader.option(() => ({
      epoch: reader.int(),
      tick: reader.int(),
      beats: reader.list(() => ({ tick: reader.int(), hash: reader.take(32) })),
    })),
  };
}

function readArrive(reader: Reader): Arrive {
  return {
    ...readEnter(reader),
    heard: reader.option(() => ({ tick: reader.int(), ordinal: reader.int(0xffff_ffff) })),
    redirects: reader.u8(),
  };
}

/** Reads a client's message (without its length): for servers of tests. */
export function decodeClient(message: Uint8Array): ClientMessage {
  const reader = body(message, CLIENT_TAG);
  const kind = reader.int();
  const read = (): ClientMessage => {
    switch (kind) {
      case 0:
        return { type: "hello", ...readHello(reader) };
      case 1:
        return { type: "command", seq: reader.int(), payload: reader.blob() };
      case 2:
        return { type: "bye" };
      case 3:
        return { type: "enter", ...readEnter(reader) };
      case 4:
        return { type: "arrive", ...readArrive(reader) };
      case 5:
        return { type: "wait", ...readHello(reader) };
      case 6:
        return {
          type: "seek",
          ...readArrive(reader),
          properties: Object.fromEntries(reader.list(() => [reader.string(), reader.string()])),
          create: reader.bool(),
        };
      case 7: {
        const [id, kind] = [reader.int(), reader.string()];
        return { type: "documents", id, kind, json: reader.string() };
      }
      default:
        throw new ProtocolError(`a client's message of kind ${kind}`);
    }
  };
  const decoded = read();
  reader.end();
  return decoded;
}

function readWelcome(reader: Reader): Welcome {
  return {
    match: reader.u64(),
    game: reader.string(),
    epoch: reader.int(),
    tick: reader.int(),
    tickRate: Math.max(1, reader.int(0xffff)),
    player: reader.u64(),
    session: reader.u64(),
    resumed: reader.bool(),
    resumeToken: reader.string(),
    nextInput: reader.int(),
    nextCommand: reader.int(),
    schema: readSchema(reader),
    config: reader.blob(),
  };
}

/** Reads a server's message (without its length). */
export function decodeServer(message: Uint8Array): ServerMessage {
  const reader = body(message, SERVER_TAG);
  const kind = reader.int();
  const read = (): ServerMessage => {
    switch (kind) {
      case 0:
        return { type: "welcome", ...readWelcome(reader) };
      case 1:
        return { type: "refused", code: variant(reader, REFUSALS), message: reader.string() };
      case 2: {
        const [seq, tick] = [reader.int(), reader.int()];
        return { type: "commandDone", seq, tick, accepted: reader.bool() };
      }
      case 3:
        return { type: "beat", tick: reader.int(), hash: reader.take(32) };
      case 4: {
        const [tick, ordinal] = [reader.int(), reader.int(0xffff_ffff)];
        return { type: "event", tick, ordinal, kind: reader.string(), payload: reader.blob() };
      }
      case 5:
        return { type: "rewound", epoch: reader.int(), to: reader.int() };
      case 6:
        return { type: "redirect", address: reader.string() };
      case 7:
        return { type: "ended", reason: reader.string() };
      case 8:
        return { type: "nodes", addresses: reader.list(() => reader.string()) };
      case 9:
        return { type: "eventsMissed", from: reader.int(), to: reader.int() };
      case 10:
        return { type: "standby", address: reader.option(() => reader.string()) };
      case 11:
        return { type: "here", match: reader.u64(), epoch: reader.int() };
      case 12:
        return {
          type: "documents",
          id: reader.int(),
          done: reader.bool(),
          json: reader.string(),
        };
      default:
        throw new ProtocolError(`a server's message of kind ${kind}`);
    }
  };
  const decoded = read();
  reader.end();
  return decoded;
}

function putServer(writer: Writer, message: ServerMessage): void {
  switch (message.type) {
    case "welcome":
      writer.uint(0).uint(message.match).string(message.game).uint(message.epoch);
      writer.uint(message.tick).uint(message.tickRate).uint(message.player);
      writer.uint(message.session).bool(message.resumed).string(message.resumeToken);
      writer.uint(message.nextInput).uint(message.nextCommand);
      writeSchema(writer, message.schema);
      writer.blob(message.config);
      break;
    case "refused":
      writer.uint(1).uint(REFUSALS.indexOf(message.code)).string(message.message);
      break;
    case "commandDone":
      writer.uint(2).uint(message.seq).uint(message.tick).bool(message.accepted);
      break;
    case "beat":
      writer.uint(3).uint(message.tick).raw(message.hash);
      break;
    case "event":
      writer.uint(4).uint(message.tick).uint(message.ordinal);
      writer.string(message.kind).blob(message.payload);
      break;
    case "rewound":
      writer.uint(5).uint(message.epoch).uint(message.to);
      break;
    case "redirect":
      writer.uint(6).string(message.address);
      break;
    case "ended":
      writer.uint(7).string(message.reason);
      break;
    case "nodes":
      writer.uint(8).list(message.addresses, (address) => writer.string(address));
      break;
    case "eventsMissed":
      writer.uint(9).uint(message.from).uint(message.to);
      break;
    case "standby":
      writer.uint(10).option(message.address, (address) => writer.string(address));
      break;
    case "here":
      writer.uint(11).uint(message.match).uint(message.epoch);
      break;
    case "documents":
      writer.uint(12).uint(message.id).bool(message.done).string(message.json);
      break;
  }
}

/** A server's message as it stands on the stream: for servers of tests. */
export function encodeServer(message: ServerMessage): Uint8Array {
  const writer = new Writer().u16le(SERVER_TAG);
  putServer(writer, message);
  return framed(writer.finish());
}
