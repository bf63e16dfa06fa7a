import type { Layout, Row } from "./layout.js";
/** What is known of an entity. */
export interface Old {
    readonly components: number;
    readonly row: Row;
    /** How many ticks ago it was told. */
    readonly ticks: number;
}
/** What a body says: known entities ascending, then new entities ascending. */
export interface Sink {
    old(known: number): Old;
    generation(known: number): number;
    /** A known entity stays as it is. */
    keep(known: number): void;
    /** A known entity changed; `row` is its row, and is used again. */
    update(known: number, row: Row): void;
    /** A known entity is gone. */
    remove(known: number): void;
    /** Another entity stands in the slot of a known one. */
    replace(known: number, generation: number, components: number, row: Row): void;
    /** A new entity. */
    insert(slot: number, generation: number, components: number, row: Row): void;
}
/** Reads a body against so many known entities. */
export declare function readBody(layout: Layout, known: number, bytes: Uint8Array, sink: Sink): void;
/** Reads a range coded body against so many known entities. */
export declare function readRangedBody(layout: Layout, known: number, bytes: Uint8Array, sink: Sink): void;
