/**
 * Values on the stream (docs/PROTOCOL.md, section 2): what messages are made of.
 *
 * Ids are `bigint`: they use all 64 bits. Ticks, epochs, sequence numbers are `number`: a match
 * does not run for 2^53 ticks, and a larger one is refused as malformed.
 */
import { ProtocolError } from "./error.js";
const SAFE = BigInt(Number.MAX_SAFE_INTEGER);
const UTF8_OUT = new TextEncoder();
/** Reads values from bytes, front to back. */
export class Reader {
    bytes;
    at = 0;
    view;
    constructor(bytes) {
        this.bytes = bytes;
        this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    /** How many bytes are left. */
    get left() {
        return this.bytes.length - this.at;
    }
    advance(count) {
        const at = this.at;
        if (count > this.left)
            throw new ProtocolError("the bytes end in the middle of a value");
        this.at = at + count;
        return at;
    }
    u8() {
        return this.bytes[this.advance(1)];
    }
    bool() {
        const value = this.u8();
        if (value > 1)
            throw new ProtocolError(`${value} is no bool`);
        return value === 1;
    }
    u16le() {
        return this.view.getUint16(this.advance(2), true);
    }
    u32le() {
        return this.view.getUint32(this.advance(4), true);
    }
    u64le() {
        return this.view.getBigUint64(this.advance(8), true);
    }
    i8() {
        return this.view.getInt8(this.advance(1));
    }
    f32() {
        return this.view.getFloat32(this.advance(4), true);
    }
    /** A varint of up to 64 bits. */
    u64() {
        const first = this.u8();
        if (first < 251)
            return BigInt(first);
        if (first === 251)
            return this.shortest(BigInt(this.u16le()), 251n);
        if (first === 252)
            return this.shortest(BigInt(this.u32le()), 0x10000n);
        if (first === 253)
            return this.shortest(this.u64le(), 0x100000000n);
        throw new ProtocolError("a varint of no known width");
    }
    shortest(value, least) {
        if (value < least)
            throw new ProtocolError("a varint that is longer than it must be");
        return value;
    }
    /** A varint that a `number` holds exactly, at most `most`. */
    int(most = Number.MAX_SAFE_INTEGER) {
        const value = this.u64();
        if (value > SAFE || value > BigInt(most)) {
            throw new ProtocolError(`${value} is above ${most}`);
        }
        return Number(value);
    }
    /** So many bytes, copied. */
    take(count) {
        const at = this.advance(count);
        return this.bytes.slice(at, at + count);
    }
    /** Bytes behind their length. */
    blob() {
        return this.take(this.int());
    }
    string() {
        try {
            return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.blob());
        }
        catch (error) {
            if (error instanceof ProtocolError)
                throw error;
            throw new ProtocolError("a string that is no UTF-8");
        }
    }
    /** Elements behind their count. Each takes at least a byte, so a count is bounded by them. */
    list(element) {
        const count = this.int();
        if (count > this.left)
            throw new ProtocolError("a list that is longer than its bytes");
        return Array.from({ length: count }, element);
    }
    option(element) {
        return this.bool() ? element() : undefined;
    }
    /** Nothing may be left. */
    end() {
        if (this.left > 0)
            throw new ProtocolError(`${this.left} bytes behind the value`);
    }
}
/** Appends values to bytes. */
export class Writer {
    buffer = new Uint8Array(64);
    view = new DataView(this.buffer.buffer);
    length = 0;
    room(count) {
        const at = this.length;
        if (at + count > this.buffer.length) {
            const grown = new Uint8Array(Math.max(this.buffer.length * 2, at + count));
            grown.set(this.buffer);
            this.buffer = grown;
            this.view = new DataView(grown.buffer);
        }
        this.length = at + count;
        return at;
    }
    u8(value) {
        const at = this.room(1);
        this.buffer[at] = value;
        return this;
    }
    bool(value) {
        return this.u8(value ? 1 : 0);
    }
    u16le(value) {
        const at = this.room(2);
        this.view.setUint16(at, value, true);
        return this;
    }
    u32le(value) {
        const at = this.room(4);
        this.view.setUint32(at, value, true);
        return this;
    }
    u64le(value) {
        const at = this.room(8);
        this.view.setBigUint64(at, value, true);
        return this;
    }
    f32(value) {
        const at = this.room(4);
        this.view.setFloat32(at, value, true);
        return this;
    }
    /** The shortest varint of a number of up to 64 bits. */
    uint(value) {
        const wide = BigInt(value);
        if (wide < 251n)
            return this.u8(Number(wide));
        if (wide < 0x10000n)
            return this.u8(251).u16le(Number(wide));
        if (wide < 0x100000000n)
            return this.u8(252).u32le(Number(wide));
        return this.u8(253).u64le(wide);
    }
    raw(bytes) {
        const at = this.room(bytes.length);
        this.buffer.set(bytes, at);
        return this;
    }
    blob(bytes) {
        return this.uint(bytes.length).raw(bytes);
    }
    string(text) {
        return this.blob(UTF8_OUT.encode(text));
    }
    list(elements, put) {
        this.uint(elements.length);
        elements.forEach(put);
        return this;
    }
    option(value, put) {
        this.bool(value !== undefined);
        if (value !== undefined)
            put(value);
        return this;
    }
    /** All that was written, copied. */
    finish() {
        return this.buffer.slice(0, this.length);
    }
}
/** Most bytes of a message of the server. */
export const MAX_MESSAGE = 65_536;
/** Cuts a stream of bytes into messages: each stands behind its length, a little-endian `u32`. */
export class Framer {
    held = new Uint8Array(0);
    /**
     * Takes in bytes, cut anywhere, and gives the messages that are complete, without their lengths.
     * After an error the stream cannot be read on.
     */
    push(chunk) {
        const bytes = new Uint8Array(this.held.length + chunk.length);
        bytes.set(this.held);
        bytes.set(chunk, this.held.length);
        const view = new DataView(bytes.buffer);
        const messages = [];
        let at = 0;
        while (bytes.length - at >= 4) {
            const length = view.getUint32(at, true);
            if (length > MAX_MESSAGE)
                throw new ProtocolError(`a message of ${length} bytes`);
            if (bytes.length - at - 4 < length)
                break;
            messages.push(bytes.slice(at + 4, at + 4 + length));
            at += 4 + length;
        }
        this.held = bytes.slice(at);
        return messages;
    }
}
/** A message behind its length. */
export function framed(message) {
    return new Writer().u32le(message.length).raw(message).finish();
}
