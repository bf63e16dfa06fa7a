/** Bits and varints of datagrams (docs/PROTOCOL.md, sections 5 and 7.1). */
import { ProtocolError } from "./error.js";

/** A quotient of so many ones is followed by the plain value instead. */
const ESCAPE = 16;

/** Reads bits; each byte is filled from its lowest bit. */
export class BitReader {
  private at = 0;
  private readonly end: number;

  constructor(private readonly bytes: Uint8Array) {
    this.end = bytes.length * 8;
  }

  /** The next `bits` bits as a number, at most 32. */
  get(bits: number): number {
    if (bits === 0) return 0;
    if (this.at + bits > this.end) throw new ProtocolError("the bits end in the middle of a value");
    let byte = this.at >>> 3;
    const shift = this.at & 7;
    let value = this.bytes[byte]! >>> shift;
    let have = 8 - shift;
    while (have < bits) {
      byte += 1;
      value += this.bytes[byte]! * 2 ** have;
      have += 8;
    }
    this.at += bits;
    return bits < 31 && have < 32 ? value & ((1 << bits) - 1) : value % 2 ** bits;
  }

  /** One bit. */
  flag(): boolean {
    if (this.at >= this.end) throw new ProtocolError("the bits end in the middle of a value");
    const bit = (this.bytes[this.at >>> 3]! >>> (this.at & 7)) & 1;
    this.at += 1;
    return bit === 1;
  }

  /** A Rice code: a quotient in ones, a zero, `k` bits. */
  rice(k: number): number {
    let quotient = 0;
    while (quotient < ESCAPE && this.flag()) quotient += 1;
    if (quotient === ESCAPE) return this.get(this.get(5) + 1);
    return quotient * 2 ** k + this.get(k);
  }

  /** Whether only the padding of the last byte is left, and it is 0. */
  atEnd(): boolean {
    if (Math.ceil(this.at / 8) !== this.bytes.length) return false;
    return this.at % 8 === 0 || this.bytes[this.at >>> 3]! >>> (this.at & 7) === 0;
  }
}

/** Reads bytes and LEB128 varints of the heads of datagrams. */
export class ByteReader {
  private at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  byte(): number {
    const byte = this.bytes[this.at];
    if (byte === undefined) throw new ProtocolError("the bytes end in the middle of a value");
    this.at += 1;
    return byte;
  }

  u32(): number {
    return this.byte() + this.byte() * 0x100 + this.byte() * 0x1_0000 + this.byte() * 0x100_0000;
  }

  /** A varint that a `number` holds exactly; others are refused. */
  varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw new ProtocolError("a number above 2^53");
        return value;
      }
    }
    throw new ProtocolError("a varint of more than 10 bytes");
  }

  /** A signed difference, zigzag coded. */
  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  take(count: number): Uint8Array {
    if (count > this.bytes.length - this.at) {
      throw new ProtocolError("the bytes end in the middle of a value");
    }
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** What is left, not copied. */
  rest(): Uint8Array {
    return this.bytes.subarray(this.at);
  }
}

/** Appends an unsigned LEB128 varint. */
export function putVarint(out: number[], value: number): void {
  while (value >= 0x80) {
    out.push((value % 0x80) | 0x80);
    value = Math.floor(value / 0x80);
  }
  out.push(value);
}

/** Appends a signed difference, zigzag coded. */
export function putSigned(out: number[], value: number): void {
  putVarint(out, value < 0 ? -value * 2 - 1 : value * 2);
}
