/**
 * The client's idea of the server's time (docs/PROTOCOL.md, section 9). A match's time is its tick
 * number. Corrections stretch or squeeze time by a few per cent instead of jumping.
 */
import type { SnapshotHeader } from "./header.js";
/** Estimates the server's tick. All times are milliseconds of one clock of the client. */
export declare class ClockSync {
    private readonly meter;
    private readonly ownPeriod;
    /** Milliseconds a tick, as the match goes now: a client makes an input about as often. */
    period: number;
    private samples;
    private rttSamples;
    private newest;
    private arrived;
    private extra;
    private targets;
    private renders;
    /** The round trip in milliseconds, smoothed. 0 before the first echo. */
    rtt: number;
    /** Mean deviation of the arrival of snapshots from even spacing, in milliseconds. */
    jitter: number;
    /** `tick * period - time of arrival`, averaged, in milliseconds. */
    offset: number;
    constructor(tickRate: number);
    /** How many times longer than its rate says a tick takes: 1, or 2 to 4 while a node is overloaded. */
    get slowdown(): number;
    /** A snapshot arrived at `now`. An echo of 0 gives no round trip. */
    onSnapshot(now: number, header: Pick<SnapshotHeader, "tick" | "echo" | "held">): void;
    /** An input meant for tick `target` was applied at `applied`: late ones make later ones earlier. */
    onApplied(target: number, applied: number): void;
    /** The tick whose snapshot is expected to arrive at `now`. */
    private arriving;
    /** The running time of inputs, in ticks: an input made at `now` is for the tick at its end. */
    targetTime(now: number): number;
    /** The tick that an input made at `now` should name. 0 before the first snapshot. */
    targetTick(now: number): number;
    /** The tick, with a fraction, to draw others at. */
    renderTick(now: number): number;
}
