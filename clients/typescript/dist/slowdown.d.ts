/**
 * How far apart the ticks of a match lie (docs/PROTOCOL.md, section 9). A node with too much to do
 * lets two, three or four tick periods lie between two ticks. The protocol has no word for it:
 * clients see it in their snapshots.
 */
/** Finds out how many periods lie between two ticks, from the arrival of snapshots. */
export declare class SlowdownMeter {
    private readonly period;
    private readonly arrivals;
    private readonly most;
    /** How many periods lie between two ticks. */
    periods: number;
    /** `period`: milliseconds a tick at the match's own rate. */
    constructor(period: number);
    /** A snapshot newer than those before arrived. Whether the ticks lie further apart, or closer. */
    arrived(tick: number, now: number): boolean;
    private apart;
    private median;
}
