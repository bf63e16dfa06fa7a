/** What bits of residuals are foreseen by (docs/PROTOCOL.md, section 7.6). */
import type { Layout, Moving } from "./layout.js";
import { Chances, type RangeReader } from "./range.js";
/** Where the chances of one residual stand. */
interface Place {
    readonly changes: number;
    readonly negative: number;
    readonly size: number;
}
/** The chances of a schema before any bit was seen. */
export declare class Template {
    /** By column, where the chances of its family begin. */
    private readonly blocks;
    private readonly start;
    constructor(layout: Layout);
    /** Chances of a set of components. */
    chances(): Chances;
    steady(at: number, again: boolean): Place;
    moving({ at }: Moving, again: boolean, rate: number, phase: number): Place;
}
/** A residual, zigzag coded. */
export declare function readResidual(place: Place, chances: Chances, bits: RangeReader): number;
export {};
