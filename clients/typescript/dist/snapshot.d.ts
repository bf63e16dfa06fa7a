import { type SnapshotHeader } from "./header.js";
import type { Acknowledgement } from "./inputs.js";
import { type Row } from "./layout.js";
import type { Schema } from "./schema.js";
/** One entity of a view. A slot and a generation name an entity for ever. */
export interface Entity {
    readonly slot: number;
    readonly generation: number;
    /** Bit i: it has component i of the schema. */
    readonly components: number;
    /** The tick of the snapshot that told it last. */
    readonly stamp: number;
    /** A quantum for each column; 0 in columns of components that it lacks. */
    readonly row: Row;
}
/** The world after a tick. Nothing in it may be changed: deltas build on it. */
export interface View {
    readonly tick: number;
    /** Ascending by slot. */
    readonly entities: readonly Entity[];
}
/** What a datagram gave. */
export interface Received {
    readonly header: SnapshotHeader;
    readonly view: View;
    /** All entities are as of this tick; otherwise some did not fit. */
    readonly complete: boolean;
}
/** The entity in a slot. */
export declare function entityIn(view: View, slot: number): Entity | undefined;
/** Decodes snapshots, and knows which of them may be a baseline. */
export declare class SnapshotReceiver {
    private readonly schema;
    private epoch;
    private states;
    private shown;
    /** Which of the 64 ticks up to the newest were received: bit i of two halves. */
    private seen;
    private newest;
    private layout;
    private tickRate;
    /** `epoch`: that of the connection's welcome. */
    constructor(schema: Schema, epoch?: number);
    /** Forgets everything: a rewind. */
    reset(): void;
    private forget;
    /** What to put into the next input packet. */
    acknowledgement(): Acknowledgement;
    /**
     * Decodes a datagram. Throws a `ProtocolError` for what gives no view: then the receiver is as
     * before, except that the first datagram of a higher epoch makes it forget the lower one.
     */
    receive(datagram: Uint8Array): Received;
    private refuseKnown;
    private baseOf;
    /** Drops what no later snapshot can build on: the server never goes back behind a baseline. */
    private dropUseless;
}
