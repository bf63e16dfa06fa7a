/** Drawing between two snapshots. */
import { type Schema } from "./schema.js";
import { type View } from "./snapshot.js";
/** An entity at a moment between ticks, in numbers. */
export interface Thing {
    readonly slot: number;
    readonly generation: number;
    readonly components: number;
    /** One number for each column; 0 in columns of components that it lacks. */
    readonly values: Float64Array;
}
/** The world at a moment between ticks. */
export interface Scene {
    /** The moment, in ticks. */
    readonly tick: number;
    /** Ascending by slot. */
    readonly things: readonly Thing[];
}
/** Keeps the last views and samples them at any moment. */
export declare class Interpolator {
    private readonly fields;
    private views;
    constructor(schema: Schema);
    /** Adds a view; late ones are sorted in. */
    push(view: View): void;
    /** Forgets the views behind a tick: a rewind. */
    rewind(to: number): void;
    /**
     * The world at `tick`. Before the oldest view it is the oldest, behind the newest the newest;
     * none without views. Entities that are not the same in the views on both sides are as in the
     * first of them.
     */
    sample(tick: number): Scene | undefined;
    private thing;
}
