/**
 * A schema made ready for decoding: widths, and what a column's value is expected to be after some
 * ticks (docs/PROTOCOL.md, section 7.4). Both ends compute the same whole numbers.
 */
import { bitsOf, checkSchema, columns, type FieldKind, type Schema } from "./schema.js";

/** Expectations reach no further than this many ticks. */
const MAX_EXTRAPOLATION = 64;
const TWO_32 = 2 ** 32;

interface Rate {
  /** The column that moves. */
  readonly at: number;
  /** The column that holds its rate. */
  readonly by: number;
  readonly base: number;
  readonly scale: number;
  /** No sum of it leaves what a `number` holds exactly. */
  readonly small: boolean;
}

interface Column {
  readonly bits: number;
  readonly mask: number;
  readonly component: number;
  readonly wraps: boolean;
}

/** The size of a quantum in the field's unit. */
function step(kind: FieldKind): number {
  if (kind.type === "float") return (kind.max - kind.min) / (2 ** kind.bits - 1);
  return kind.type === "angle" ? (2 * Math.PI) / 2 ** kind.bits : 1;
}

/** Rounded and clamped; what is no number is 0. */
function fixed(value: number, most: number): number {
  const whole = Math.floor(value + 0.5);
  return Number.isNaN(whole) ? 0 : Math.min(Math.max(whole, -most), most);
}

function unzigzag(value: number): number {
  return (value >>> 1) ^ -(value & 1);
}

export class Layout {
  readonly columns: readonly Column[];
  readonly componentCount: number;
  private readonly moving: readonly Rate[];
  private readonly steady: readonly number[];
  private readonly present = new Map<number, number[]>();

  constructor(schema: Schema, tickRate: number) {
    checkSchema(schema);
    const fields = columns(schema);
    const owners = schema.components.flatMap(({ fields }, index) => fields.map(() => index));
    this.componentCount = schema.components.length;
    this.columns = fields.map(({ kind }, at) => ({
      bits: bitsOf(kind),
      mask: 0xffff_ffff >>> (32 - bitsOf(kind)),
      component: owners[at]!,
      wraps: kind.type === "angle",
    }));
    const moving: Rate[] = [];
    for (const [at, { kind, rate }] of fields.entries()) {
      const of = rate === undefined ? undefined : fields[rate];
      if (rate === undefined || of?.kind.type !== "float") continue;
      if (of.rate !== undefined || rate === at || kind.type === "bool") continue;
      const perTick = 65536 / (step(kind) * Math.max(1, tickRate));
      const base = fixed(of.kind.min * perTick, 2 ** 40);
      const scale = fixed(step(of.kind) * perTick, 2 ** 30);
      const fastest = Math.abs(base) + scale * (2 ** of.kind.bits - 1);
      const small = fastest * 2 * MAX_EXTRAPOLATION + 65536 < Number.MAX_SAFE_INTEGER;
      moving.push({ at, by: rate, base, scale, small });
    }
    this.moving = moving;
    const isMoving = new Set(moving.map(({ at }) => at));
    this.steady = fields.map((_, at) => at).filter((at) => !isMoving.has(at));
  }

  /** How many columns a row has. */
  get stride(): number {
    return this.columns.length;
  }

  /** The columns that an entity with these components has, ascending. */
  presentColumns(components: number): readonly number[] {
    let found = this.present.get(components);
    if (found === undefined) {
      found = [];
      for (const [at, { component }] of this.columns.entries()) {
        if ((components >>> component) & 1) found.push(at);
      }
      // Bounded: a hostile server could name many.
      if (this.present.size > 1024) this.present.clear();
      this.present.set(components, found);
    }
    return found;
  }

  private expected(rate: Rate, components: number, ticks: number, old: Row, row: Row): number {
    const column = this.columns[rate.at]!;
    const has = (component: number): boolean => ((components >>> component) & 1) === 1;
    const known = has(column.component) && has(this.columns[rate.by]!.component);
    if (ticks >= MAX_EXTRAPOLATION || !known) return old[rate.at]!;
    const moved = rate.small
      ? old[rate.at]! + shift17(
          (ticks - 1) * (rate.base + old[rate.by]! * rate.scale) +
            (ticks + 1) * (rate.base + row[rate.by]! * rate.scale) +
            65536,
        )
      : this.movedWide(rate, ticks, old, row);
    if (column.wraps) return (((moved % TWO_32) + TWO_32) % TWO_32 & column.mask) >>> 0;
    return Math.min(Math.max(moved, 0), column.mask);
  }

  /** The same in whole numbers of any size, for fast and finely told things. */
  private movedWide(rate: Rate, ticks: number, old: Row, row: Row): number {
    const speed = (of: Row): bigint =>
      BigInt(rate.base) + BigInt(of[rate.by]!) * BigInt(rate.scale);
    const n = BigInt(ticks);
    const twice = (n - 1n) * speed(old) + (n + 1n) * speed(row) + 65536n;
    return Number(BigInt(old[rate.at]!) + (twice >> 17n));
  }

  /** `row` holds residuals against `old` and becomes the new row. */
  apply(components: number, ticks: number, old: Row, row: Row): void {
    for (const at of this.steady) {
      row[at] = ((old[at]! + unzigzag(row[at]!)) & this.columns[at]!.mask) >>> 0;
    }
    for (const rate of this.moving) {
      const expected = this.expected(rate, components, ticks, old, row);
      row[rate.at] = ((expected + unzigzag(row[rate.at]!)) & this.columns[rate.at]!.mask) >>> 0;
    }
  }
}

/** One number for each column. */
export type Row = Uint32Array;

/** Divided by 2^17, rounded down. */
function shift17(value: number): number {
  return Math.floor(value / 131_072);
}
