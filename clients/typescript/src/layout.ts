/**
 * A schema made ready for decoding: widths, and what a column's value is expected to be after some
 * ticks (docs/PROTOCOL.md, section 7.4). Both ends compute the same whole numbers.
 */
import { Template } from "./contexts.js";
import { bitsOf, checkSchema, columns, type FieldKind, type Schema } from "./schema.js";

/** Expectations reach no further than this many ticks. */
const MAX_EXTRAPOLATION = 64;
const TWO_32 = 2 ** 32;

/** A column that moves by a rate. */
export interface Moving {
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
  /** Its expected value is the old one. */
  readonly steady: boolean;
  /** Floats and angles change more often than numbers and bools. */
  readonly lively: boolean;
  /** The first column of the same component that is of the same kind. */
  readonly family: number;
}

/** What a column is expected to hold, and where in its quantum the sum lay, in sixteenths. */
export interface Expected {
  readonly value: number;
  readonly phase: number;
}

/** The columns that an entity has, in the order in which range coded rows have them. */
export interface Turns {
  readonly steady: readonly number[];
  readonly moving: readonly Moving[];
}

/** The phase of what is not expected to move. */
const STILL = 7;
/** An eighth of a quantum per tick, in 1/65536: what is slower counts as at rest. */
const MOVES = 8192;

function alike(one: FieldKind, other: FieldKind): boolean {
  if (one.type !== other.type || bitsOf(one) !== bitsOf(other)) return false;
  const float = one.type === "float" && other.type === "float";
  return !float || (one.min === other.min && one.max === other.max);
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
  /** What range coded residuals are foreseen by before any was seen. */
  readonly template: Template;
  private readonly moving: readonly Moving[];
  private readonly steady: readonly number[];
  private readonly present = new Map<number, number[]>();

  constructor(schema: Schema, tickRate: number) {
    checkSchema(schema);
    const fields = columns(schema);
    const owners = schema.components.flatMap(({ fields }, index) => fields.map(() => index));
    this.componentCount = schema.components.length;
    const moving: Moving[] = [];
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
    const related = (at: number) => (other: number) =>
      owners[other] === owners[at] &&
      isMoving.has(other) === isMoving.has(at) &&
      alike(fields[other]!.kind, fields[at]!.kind);
    const places = fields.map((_, at) => at);
    this.columns = fields.map(({ kind }, at) => ({
      bits: bitsOf(kind),
      mask: 0xffff_ffff >>> (32 - bitsOf(kind)),
      component: owners[at]!,
      wraps: kind.type === "angle",
      steady: !isMoving.has(at),
      lively: kind.type === "float" || kind.type === "angle",
      family: places.find(related(at))!,
    }));
    this.template = new Template(this);
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

  /** The columns of an entity with these components, in the order of range coded rows. */
  turns(components: number): Turns {
    const present = new Set(this.presentColumns(components));
    return {
      steady: this.steady.filter((at) => present.has(at)),
      moving: this.moving.filter(({ at }) => present.has(at)),
    };
  }

  private counts(rate: Moving, components: number): boolean {
    const has = (at: number): boolean => ((components >>> this.columns[at]!.component) & 1) === 1;
    return has(rate.at) && has(rate.by);
  }

  /** Whether an entity with these values moves. */
  moves(components: number, row: Row): boolean {
    // Sums that a `number` does not hold exactly are far from the bound.
    const fast = (rate: Moving): boolean =>
      Math.abs(rate.base + row[rate.by]! * rate.scale) >= MOVES;
    return this.moving.some((rate) => this.counts(rate, components) && fast(rate));
  }

  /** What a column is expected to hold; the steady ones of `row` are new already. */
  expected(rate: Moving, components: number, ticks: number, old: Row, row: Row): Expected {
    const column = this.columns[rate.at]!;
    if (ticks >= MAX_EXTRAPOLATION || !this.counts(rate, components)) {
      return { value: old[rate.at]!, phase: STILL };
    }
    const [by, phase] = rate.small
      ? split(
          (ticks - 1) * (rate.base + old[rate.by]! * rate.scale) +
            (ticks + 1) * (rate.base + row[rate.by]! * rate.scale) +
            65536,
        )
      : movedWide(rate, ticks, old, row);
    const moved = old[rate.at]! + by;
    const value = column.wraps
      ? (((moved % TWO_32) + TWO_32) % TWO_32 & column.mask) >>> 0
      : Math.min(Math.max(moved, 0), column.mask);
    return { value, phase };
  }

  /** `row` holds residuals against `old` and becomes the new row. */
  apply(components: number, ticks: number, old: Row, row: Row): void {
    this.applySteady(old, row);
    for (const rate of this.moving) {
      this.applyMoving(rate, this.expected(rate, components, ticks, old, row), row);
    }
  }

  /** The first half of `apply`: the columns without a rate. */
  applySteady(old: Row, row: Row): void {
    for (const at of this.steady) {
      row[at] = ((old[at]! + unzigzag(row[at]!)) & this.columns[at]!.mask) >>> 0;
    }
  }

  /** A moving column of `row` holds a residual and becomes the value. */
  applyMoving({ at }: Moving, { value }: Expected, row: Row): void {
    row[at] = ((value + unzigzag(row[at]!)) & this.columns[at]!.mask) >>> 0;
  }
}

/** One number for each column. */
export type Row = Uint32Array;

/** A sum divided by 2^17 and rounded down, and the sixteenth that it lay in. */
function split(sum: number): [number, number] {
  const sixteenths = Math.floor(sum / 8192);
  return [Math.floor(sixteenths / 16), ((sixteenths % 16) + 16) % 16];
}

/** The same in whole numbers of any size, for fast and finely told things. */
function movedWide(rate: Moving, ticks: number, old: Row, row: Row): [number, number] {
  const speed = (of: Row): bigint =>
    BigInt(rate.base) + BigInt(of[rate.by]!) * BigInt(rate.scale);
  const n = BigInt(ticks);
  const twice = (n - 1n) * speed(old) + (n + 1n) * speed(row) + 65536n;
  return [Number(twice >> 17n), Number((twice >> 13n) & 15n)];
}
