/** What stands in front of every snapshot (docs/PROTOCOL.md, section 6). */
import { ByteReader } from "./bits.js";
import { ProtocolError } from "./error.js";

/** An input that the match has applied, and in which tick. */
export interface Applied {
  readonly seq: number;
  readonly tick: number;
}

/** What a snapshot says besides the state of the world. */
export interface SnapshotHeader {
  /** Under which ownership. */
  readonly epoch: number;
  /** The tick after which the world was so. */
  readonly tick: number;
  /** The newest durable tick when the snapshot was made. */
  readonly durable: number;
  /** The newest applied inputs of this session, at most 4, newest last. */
  readonly applied: readonly Applied[];
  /** The client's clock as in its newest packet; 0 before the first. */
  readonly echo: number;
  /** How long the server has had that packet, in milliseconds. */
  readonly held: number;
  /** The number that the next input must have at least, if the server corrects the client. */
  readonly nextInput: number | undefined;
  /** The slot of the entity that the player steers. */
  readonly avatar: number | undefined;
}

/** The part of the head that is the codec's own business. */
export interface Framing {
  /** What the snapshot is a delta of; `undefined` for a full one. */
  readonly baseline: number | undefined;
  /** Ticks per second that expectations go by; only of full ones. */
  readonly tickRate: number;
  /** Some entities of the view did not fit. */
  readonly partial: boolean;
  /** The body is range coded. */
  readonly ranged: boolean;
}

const [KIND, KIND_RANGE] = [0x10, 0x30];
const [FULL, PARTIAL, AVATAR, NEXT_INPUT] = [1, 2, 4, 8];
const [COUNT, DURABLE, STEADY, ECHO] = [7, 8, 16, 32];
const MAX_APPLIED = 4;
/** Snapshots build on ticks that lie less than this behind. */
export const HISTORY = 64;

/** No count of ticks or inputs is negative. */
function natural(value: number): number {
  if (value < 0 || value > Number.MAX_SAFE_INTEGER) {
    throw new ProtocolError("a number below 0 or above 2^53");
  }
  return value;
}

function readApplied(bytes: ByteReader, more: number, tick: number): Applied[] {
  const count = more & COUNT;
  const applied: Applied[] = [];
  let last = 0;
  for (let index = 0; index < (more & STEADY ? Math.min(count, 1) : count); index += 1) {
    last = natural(last + bytes.signed());
    applied.push({ seq: last, tick: natural(tick - bytes.signed()) });
  }
  const [newest] = applied;
  if (!(more & STEADY) || newest === undefined) return applied;
  return Array.from({ length: count }, (_, index) => {
    const back = count - 1 - index;
    return { seq: natural(newest.seq - back), tick: natural(newest.tick - back) };
  });
}

/** Reads the head; `body` is what follows it. */
export function readHeader(datagram: Uint8Array): {
  header: SnapshotHeader;
  framing: Framing;
  body: Uint8Array;
} {
  const bytes = new ByteReader(datagram);
  const kind = bytes.byte();
  const ranged = (kind & 0xf0) === KIND_RANGE;
  if ((kind & 0xf0) !== KIND && !ranged) throw new ProtocolError(`a datagram of kind ${kind}`);
  const more = bytes.byte();
  if ((more & COUNT) > MAX_APPLIED || more & 0xc0) {
    throw new ProtocolError("more than 4 applied inputs, or unknown flags");
  }
  const [epoch, tick, distance] = [bytes.varint(), bytes.varint(), bytes.varint()];
  const full = (kind & FULL) !== 0;
  if (full && (distance === 0 || distance > 0xffff)) {
    throw new ProtocolError("a tick rate of 0 or above 65535");
  }
  if (!full && (distance === 0 || distance >= HISTORY || distance > tick)) {
    throw new ProtocolError("a baseline that is not among the 63 ticks before");
  }
  const durable = more & DURABLE ? natural(tick + bytes.signed()) : tick;
  const applied = readApplied(bytes, more, tick);
  const echo = more & ECHO ? bytes.u32() : 0;
  const held = more & ECHO ? bytes.varint() : 0;
  if (held > 0xffff) throw new ProtocolError("a hold time above 65535 ms");
  const avatar = kind & AVATAR ? bytes.varint() : undefined;
  if (avatar !== undefined && avatar > 0xffff_ffff) throw new ProtocolError("a slot above 32 bits");
  const nextInput = kind & NEXT_INPUT ? bytes.varint() : undefined;
  return {
    header: { epoch, tick, durable, applied, echo, held, nextInput, avatar },
    framing: {
      baseline: full ? undefined : tick - distance,
      tickRate: full ? distance : 0,
      partial: (kind & PARTIAL) !== 0,
      ranged,
    },
    body: bytes.rest(),
  };
}
