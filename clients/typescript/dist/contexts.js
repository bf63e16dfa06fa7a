import { Chances } from "./range.js";
import { ProtocolError } from "./error.js";
/** Kinds of bits of how large a residual is. */
const DIGITS = 16;
const SIZE = 2 * DIGITS;
const [MOVING_CHANGES, MOVING_SIGNS, STEADY_CHANGES] = [20, 3, 2];
/** Residuals of a rate up to this are small. */
const SMALL = 4;
const SIZES = [...Array(4).fill(40_000), ...Array(DIGITS - 4).fill(24_000)];
const SECOND_DIGITS = Array(DIGITS).fill(29_000);
function block(steady, lively) {
    const sizes = [...SIZES, ...SECOND_DIGITS];
    if (steady)
        return [...(lively ? [30_000, 45_000] : [4_000, 16_000]), 32_768, ...sizes];
    const edges = Array.from({ length: 8 }, (_, edge) => 3_072 + 4_096 * edge);
    const off = Array(MOVING_CHANGES - 16).fill(40_000);
    return [...edges, ...edges, ...off, 62_000, 3_500, 32_768, ...sizes, ...sizes];
}
/** The chances of a schema before any bit was seen. */
export class Template {
    /** By column, where the chances of its family begin. */
    blocks = [];
    start;
    constructor(layout) {
        const all = [];
        for (const [at, { family, steady, lively }] of layout.columns.entries()) {
            this.blocks.push(family < at ? this.blocks[family] : all.length);
            if (family === at)
                all.push(...block(steady, lively));
        }
        this.start = Uint16Array.from(all);
    }
    /** Chances of a set of components. */
    chances() {
        return new Chances(this.start.slice());
    }
    steady(at, again) {
        const begin = this.blocks[at];
        const negative = begin + STEADY_CHANGES;
        return { changes: begin + Number(again), negative, size: negative + 1 };
    }
    moving({ at }, again, rate, phase) {
        const begin = this.blocks[at];
        const large = Number(rate > SMALL);
        const edge = phase < 8 ? 7 - phase : phase - 8;
        const changes = rate === 0 ? Number(again) * 8 + edge : 16 + large * 2 + Number(again);
        return {
            changes: begin + changes,
            negative: begin + MOVING_CHANGES + (rate === 0 ? phase >>> 3 : 2),
            size: begin + MOVING_CHANGES + MOVING_SIGNS + large * SIZE,
        };
    }
}
/** A residual, zigzag coded. */
export function readResidual(place, chances, bits) {
    if (!bits.bit(chances, place.changes))
        return 0;
    const negative = bits.bit(chances, place.negative);
    let digits = 0;
    while (bits.bit(chances, place.size + Math.min(digits, DIGITS - 1))) {
        digits += 1;
        if (digits === 32)
            throw new ProtocolError("a residual above 32 bits");
    }
    let size = 1;
    if (digits > 0) {
        const second = bits.bit(chances, place.size + DIGITS + Math.min(digits, DIGITS - 1));
        size = (second ? 3 : 2) * 2 ** (digits - 1) + bits.get(digits - 1);
    }
    return (size * 2 - Number(negative)) >>> 0;
}
