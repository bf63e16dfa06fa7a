/** What bits of residuals are foreseen by (docs/PROTOCOL.md, section 7.6). */
import type { Layout, Moving } from "./layout.js";
import { Chances, type RangeReader } from "./range.js";
import { ProtocolError } from "./error.js";

/** Kinds of bits of how large a residual is. */
const DIGITS = 16;
const SIZE = 2 * DIGITS;
const [MOVING_CHANGES, MOVING_SIGNS, STEADY_CHANGES] = [20, 3, 2];
/** Residuals of a rate up to this are small. */
const SMALL = 4;

const SIZES = [...Array<number>(4).fill(40_000), ...Array<number>(DIGITS - 4).fill(24_000)];
const SECOND_DIGITS = Array<number>(DIGITS).fill(29_000);

/** Where the chances of one residual stand. */
interface Place {
  readonly changes: number;
  readonly negative: number;
  readonly size: number;
}

function block(steady: boolean, lively: boolean): number[] {
  const sizes = [...SIZES, ...SECOND_DIGITS];
  if (steady) return [...(lively ? [30_000, 45_000] : [4_000, 16_000]), 32_768, ...sizes];
  const edges = Array.from({ length: 8 }, (_, edge) => 3_072 + 4_096 * edge);
  const off = Array<number>(MOVING_CHANGES - 16).fill(40_000);
  return [...edges, ...edges, ...off, 62_000, 3_500, 32_768, ...sizes, ...sizes];
}

/** The chances of a schema before any bit was seen. */
export class Template {
  /** By column, where the chances of its family begin. */
  private readonly blocks: number[] = [];
  private readonly start: Uint16Array;

  constructor(layout: Layout) {
    const all: number[] = [];
    for (const [at, { family, steady, lively }] of layout.columns.entries()) {
      this.blocks.push(family < at ? this.blocks[family]! : all.length);
      if (family === at) all.push(...block(steady, lively));
    }
    this.start = Uint16Array.from(all);
  }

  /** Chances of a set of components. */
  chances(): Chances {
    return new Chances(this.start.slice());
  }

  steady(at: number, again: boolean): Place {
    const begin = this.blocks[at]!;
    const negative = begin + STEADY_CHANGES;
    return { changes: begin + Number(again), negative, size: negative + 1 };
  }

  moving({ at }: Moving, again: boolean, rate: number, phase: number): Place {
    const begin = this.blocks[at]!;
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
export function readResidual(place: Place, chances: Chances, bits: RangeReader): number {
  if (!bits.bit(chances, place.changes)) return 0;
  const negative = bits.bit(chances, place.negative);
  let digits = 0;
  while (bits.bit(chances, place.size + Math.min(digits, DIGITS - 1))) {
    digits += 1;
    if (digits === 32) throw new ProtocolError("a residual above 32 bits");
  }
  let size = 1;
  if (digits > 0) {
    const second = bits.bit(chances, place.size + DIGITS + Math.min(digits, DIGITS - 1));
    size = (second ? 3 : 2) * 2 ** (digits - 1) + bits.get(digits - 1);
  }
  return (size * 2 - Number(negative)) >>> 0;
}
