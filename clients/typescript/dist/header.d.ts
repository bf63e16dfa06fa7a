/** An input that the match has applied, and in which tick. */
export interface Applied {
    readonly seq: number;
    readonly tick: number;
}
/** What a snapshot says besides the state of the world. */
export interface SnapshotHeader {
    /** Under which ownership. */
    readonly epoch: number;
    /** The tick after which the world was so. */
    readonly tick: number;
    /** The newest durable tick when the snapshot was made. */
    readonly durable: number;
    /** The newest applied inputs of this session, at most 4, newest last. */
    readonly applied: readonly Applied[];
    /** The client's clock as in its newest packet; 0 before the first. */
    readonly echo: number;
    /** How long the server has had that packet, in milliseconds. */
    readonly held: number;
    /** The number that the next input must have at least, if the server corrects the client. */
    readonly nextInput: number | undefined;
    /** The slot of the entity that the player steers. */
    readonly avatar: number | undefined;
}
/** The part of the head that is the codec's own business. */
export interface Framing {
    /** What the snapshot is a delta of; `undefined` for a full one. */
    readonly baseline: number | undefined;
    /** Ticks per second that expectations go by; only of full ones. */
    readonly tickRate: number;
    /** Some entities of the view did not fit. */
    readonly partial: boolean;
    /** The body is range coded. */
    readonly ranged: boolean;
}
/** Snapshots build on ticks that lie less than this behind. */
export declare const HISTORY = 64;
/** Reads the head; `body` is what follows it. */
export declare function readHeader(datagram: Uint8Array): {
    header: SnapshotHeader;
    framing: Framing;
    body: Uint8Array;
};
