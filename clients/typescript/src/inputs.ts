/** Input packets (docs/PROTOCOL.md, section 5). */
import { ByteReader, putSigned, putVarint } from "./bits.js";
import { ProtocolError } from "./error.js";

const KIND = 0x20;
/** Most inputs of a packet. */
const MAX_INPUTS = 32;
/** Inputs that are repeated until a snapshot names them; older ones are given up. */
const MAX_KEPT = 128;
/** Most bytes of an input. */
const MAX_PAYLOAD = 512;

/** An input that is on its way. */
export interface InputItem {
  /** Its number in the session. */
  readonly seq: number;
  /** The tick that it is meant for. */
  readonly target: number;
  /** The tick that the player was looking at. */
  readonly view: number;
  /** The game's encoding. */
  readonly payload: Uint8Array;
}

/** What snapshots were received: the newest, and a bit for each of the 32 ticks before it. */
export interface Acknowledgement {
  readonly tick: number;
  readonly bits: number;
}

export interface InputPacket extends Acknowledgement {
  /** The client's clock in milliseconds, 32 bits, never 0. */
  readonly clock: number;
  readonly inputs: readonly InputItem[];
}

function putU32(out: number[], value: number): void {
  out.push(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}

function putInput(out: number[], item: InputItem, last: number, ack: number): void {
  putVarint(out, item.seq - last);
  putSigned(out, item.target - ack);
  putSigned(out, item.target - item.view);
  putVarint(out, item.payload.length);
  for (const byte of item.payload) out.push(byte);
}

/** A packet as a datagram. */
export function encodeInputs(packet: InputPacket): Uint8Array {
  const out: number[] = [KIND];
  putVarint(out, packet.tick);
  putU32(out, packet.bits);
  putU32(out, packet.clock);
  out.push(packet.inputs.length);
  let last = 0;
  for (const item of packet.inputs) {
    putInput(out, item, last, packet.tick);
    last = item.seq;
  }
  return Uint8Array.from(out);
}

/** Reads a packet: for servers of tests. */
export function decodeInputs(datagram: Uint8Array): InputPacket {
  const bytes = new ByteReader(datagram);
  if (bytes.byte() !== KIND) throw new ProtocolError("no input packet");
  const tick = bytes.varint();
  const [bits, clock, count] = [bytes.u32(), bytes.u32(), bytes.byte()];
  if (count > MAX_INPUTS) throw new ProtocolError("more than 32 inputs");
  const inputs: InputItem[] = [];
  let seq = 0;
  for (let index = 0; index < count; index += 1) {
    const step = bytes.varint();
    if (step === 0) throw new ProtocolError("inputs that do not ascend");
    seq += step;
    const target = tick + bytes.signed();
    const view = target - bytes.signed();
    const length = bytes.varint();
    if (length > MAX_PAYLOAD) throw new ProtocolError(`an input of ${length} bytes`);
    inputs.push({ seq, target, view, payload: bytes.take(length).slice() });
  }
  if (bytes.rest().length > 0) throw new ProtocolError("bytes behind the last input");
  return { tick, bits, clock, inputs };
}

/** Numbers inputs, and keeps those that no snapshot has named so that each packet repeats them. */
export class InputSender {
  private kept: InputItem[] = [];

  constructor(private next: number) {}

  /** The number that the next input gets. */
  get nextSeq(): number {
    return this.next;
  }

  /** Inputs that no snapshot has named, oldest first. */
  get pending(): readonly InputItem[] {
    return this.kept;
  }

  push(payload: Uint8Array, target: number, view: number): InputItem {
    if (payload.length > MAX_PAYLOAD) throw new RangeError(`an input has at most ${MAX_PAYLOAD} bytes`);
    const item = { seq: this.next, target, view, payload: payload.slice() };
    this.next += 1;
    this.kept.push(item);
    if (this.kept.length > MAX_KEPT) this.kept.shift();
    return item;
  }

  /** A packet of at most `budget` bytes with the newest inputs that no snapshot has named. */
  packet(ack: Acknowledgement, clock: number, budget: number): Uint8Array {
    const inputs: InputItem[] = [];
    // What an input takes is the same or less when others stand in front of it.
    let size = 1 + 10 + 4 + 4 + 1;
    for (const item of this.kept.slice(-MAX_INPUTS).reverse()) {
      const bytes: number[] = [];
      putInput(bytes, item, 0, ack.tick);
      size += bytes.length;
      if (size > budget) break;
      inputs.push(item);
    }
    return encodeInputs({ ...ack, clock, inputs: inputs.reverse() });
  }

  /** A snapshot named input `seq`: it and older ones need not be sent again. */
  applied(seq: number): void {
    this.kept = this.kept.filter((item) => item.seq > seq);
  }

  /** The server takes no input below `next`. */
  skipTo(next: number): void {
    this.next = Math.max(this.next, next);
    this.applied(next - 1);
  }

  /** Gives up all inputs that are on their way, and goes on at `next` at least. */
  restart(next: number): void {
    this.kept = [];
    this.next = Math.max(this.next, next);
  }
}
