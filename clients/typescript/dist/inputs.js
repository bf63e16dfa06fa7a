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
function putU32(out, value) {
    out.push(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}
function putInput(out, item, last, ack) {
    putVarint(out, item.seq - last);
    putSigned(out, item.target - ack);
    putSigned(out, item.target - item.view);
    putVarint(out, item.payload.length);
    for (const byte of item.payload)
        out.push(byte);
}
/** A packet as a datagram. */
export function encodeInputs(packet) {
    const out = [KIND];
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
export function decodeInputs(datagram) {
    const bytes = new ByteReader(datagram);
    if (bytes.byte() !== KIND)
        throw new ProtocolError("no input packet");
    const tick = bytes.varint();
    const [bits, clock, count] = [bytes.u32(), bytes.u32(), bytes.byte()];
    if (count > MAX_INPUTS)
        throw new ProtocolError("more than 32 inputs");
    const inputs = [];
    let seq = 0;
    for (let index = 0; index < count; index += 1) {
        const step = bytes.varint();
        if (step === 0)
            throw new ProtocolError("inputs that do not ascend");
        seq += step;
        const target = tick + bytes.signed();
        const view = target - bytes.signed();
        const length = bytes.varint();
        if (length > MAX_PAYLOAD)
            throw new ProtocolError(`an input of ${length} bytes`);
        inputs.push({ seq, target, view, payload: bytes.take(length).slice() });
    }
    if (bytes.rest().length > 0)
        throw new ProtocolError("bytes behind the last input");
    return { tick, bits, clock, inputs };
}
/** Numbers inputs, and keeps those that no snapshot has named so that each packet repeats them. */
export class InputSender {
    next;
    kept = [];
    constructor(next) {
        this.next = next;
    }
    /** The number that the next input gets. */
    get nextSeq() {
        return this.next;
    }
    /** Inputs that no snapshot has named, oldest first. */
    get pending() {
        return this.kept;
    }
    push(payload, target, view) {
        if (payload.length > MAX_PAYLOAD)
            throw new RangeError(`an input has at most ${MAX_PAYLOAD} bytes`);
        const item = { seq: this.next, target, view, payload: payload.slice() };
        this.next += 1;
        this.kept.push(item);
        if (this.kept.length > MAX_KEPT)
            this.kept.shift();
        return item;
    }
    /** A packet of at most `budget` bytes with the newest inputs that no snapshot has named. */
    packet(ack, clock, budget) {
        const inputs = [];
        // What an input takes is the same or less when others stand in front of it.
        let size = 1 + 10 + 4 + 4 + 1;
        for (const item of this.kept.slice(-MAX_INPUTS).reverse()) {
            const bytes = [];
            putInput(bytes, item, 0, ack.tick);
            size += bytes.length;
            if (size > budget)
                break;
            inputs.push(item);
        }
        return encodeInputs({ ...ack, clock, inputs: inputs.reverse() });
    }
    /** A snapshot named input `seq`: it and older ones need not be sent again. */
    applied(seq) {
        this.kept = this.kept.filter((item) => item.seq > seq);
    }
    /** The server takes no input below `next`. */
    skipTo(next) {
        this.next = Math.max(this.next, next);
        this.applied(next - 1);
    }
    /** Gives up all inputs that are on their way, and goes on at `next` at least. */
    restart(next) {
        this.kept = [];
        this.next = Math.max(this.next, next);
    }
}
