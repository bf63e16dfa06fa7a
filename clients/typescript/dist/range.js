/** Adaptive binary range coding (docs/PROTOCOL.md, section 7.6). */
import { ProtocolError } from "./error.js";
const LEAST_RANGE = 2 ** 24;
const [LEAST, MOST] = [32, 65_536 - 32];
/** How much a bit moves a chance, by how many it has seen; the last stands for all later ones. */
const STEPS = Int32Array.from({ length: 29 }, (_, seen) => Math.floor(131_072 / (2 * seen + 7)));
/** Chances that a bit is 1, in 1/65536, and how many bits each has seen. */
export class Chances {
    one;
    seen;
    constructor(one) {
        this.one = one;
        this.seen = new Uint8Array(one.length);
    }
    /** How many. */
    get length() {
        return this.one.length;
    }
    get(at) {
        return this.one[at];
    }
    learn(at, bit) {
        const [one, seen] = [this.one[at], this.seen[at]];
        this.one[at] = one + ((((bit ? MOST : LEAST) - one) * STEPS[seen]) >> 16);
        if (seen < STEPS.length - 1)
            this.seen[at] = seen + 1;
    }
}
/** Reads bits; behind the end come zeros, at most four bytes of them. */
export class RangeReader {
    bytes;
    at = 0;
    code = 0;
    range = 0xffff_ffff;
    constructor(bytes) {
        this.bytes = bytes;
        for (let index = 0; index < 4; index += 1)
            this.read();
    }
    read() {
        this.code = ((this.code << 8) | (this.bytes[this.at] ?? 0)) >>> 0;
        this.at += 1;
    }
    normalise() {
        while (this.range < LEAST_RANGE) {
            this.range = (this.range << 8) >>> 0;
            this.read();
        }
        if (this.at > this.bytes.length + 4) {
            throw new ProtocolError("the bits end in the middle of a value");
        }
    }
    /** One bit, foreseen by a chance that learns from it. */
    bit(chances, at) {
        const ones = (this.range >>> 16) * chances.get(at);
        const bit = this.code < ones;
        if (bit) {
            this.range = ones;
        }
        else {
            this.code -= ones;
            this.range -= ones;
        }
        chances.learn(at, bit);
        this.normalise();
        return bit;
    }
    /** Plain bits, at most 32. */
    get(bits) {
        let value = 0;
        for (let left = bits; left > 0;) {
            const part = Math.min(left, 8);
            left -= part;
            this.range >>>= part;
            const digit = Math.min(Math.floor(this.code / this.range), 2 ** part - 1);
            this.code -= digit * this.range;
            value = value * 2 ** part + digit;
            this.normalise();
        }
        return value;
    }
    flag() {
        return this.get(1) === 1;
    }
    /** Whether the bytes are those that a writer ends with. */
    atEnd() {
        let value = 0;
        for (let back = 4; back > 0; back -= 1) {
            value = value * 256 + (this.bytes[this.at - back] ?? 0);
        }
        const low = (value - this.code) >>> 0;
        for (let bytes = 0; bytes <= 4; bytes += 1) {
            const unit = 2 ** (32 - 8 * bytes);
            const shortest = Math.ceil(low / unit) * unit;
            if (shortest < low + this.range) {
                return shortest % 2 ** 32 === value && this.at - 4 + bytes === this.bytes.length;
            }
        }
        return false;
    }
}
