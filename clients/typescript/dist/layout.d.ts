/**
 * A schema made ready for decoding: widths, and what a column's value is expected to be after some
 * ticks (docs/PROTOCOL.md, section 7.4). Both ends compute the same whole numbers.
 */
import { Template } from "./contexts.js";
import { type Schema } from "./schema.js";
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
export declare class Layout {
    readonly columns: readonly Column[];
    readonly componentCount: number;
    /** What range coded residuals are foreseen by before any was seen. */
    readonly template: Template;
    private readonly moving;
    private readonly steady;
    private readonly present;
    constructor(schema: Schema, tickRate: number);
    /** How many columns a row has. */
    get stride(): number;
    /** The columns that an entity with these components has, ascending. */
    presentColumns(components: number): readonly number[];
    /** The columns of an entity with these components, in the order of range coded rows. */
    turns(components: number): Turns;
    private counts;
    /** Whether an entity with these values moves. */
    moves(components: number, row: Row): boolean;
    /** What a column is expected to hold; the steady ones of `row` are new already. */
    expected(rate: Moving, components: number, ticks: number, old: Row, row: Row): Expected;
    /** `row` holds residuals against `old` and becomes the new row. */
    apply(components: number, ticks: number, old: Row, row: Row): void;
    /** The first half of `apply`: the columns without a rate. */
    applySteady(old: Row, row: Row): void;
    /** A moving column of `row` holds a residual and becomes the value. */
    applyMoving({ at }: Moving, { value }: Expected, row: Row): void;
}
/** One number for each column. */
export type Row = Uint32Array;
export {};
