/**
 * A schema made ready for decoding: widths, and what a column's value is expected to be after some
 * ticks (docs/PROTOCOL.md, section 7.4). Both ends compute the same whole numbers.
 */
import { type Schema } from "./schema.js";
interface Column {
    readonly bits: number;
    readonly mask: number;
    readonly component: number;
    readonly wraps: boolean;
}
export declare class Layout {
    readonly columns: readonly Column[];
    readonly componentCount: number;
    private readonly moving;
    private readonly steady;
    private readonly present;
    constructor(schema: Schema, tickRate: number);
    /** How many columns a row has. */
    get stride(): number;
    /** The columns that an entity with these components has, ascending. */
    presentColumns(components: number): readonly number[];
    private expected;
    /** The same in whole numbers of any size, for fast and finely told things. */
    private movedWide;
    /** `row` holds residuals against `old` and becomes the new row. */
    apply(components: number, ticks: number, old: Row, row: Row): void;
}
/** One number for each column. */
export type Row = Uint32Array;
export {};
