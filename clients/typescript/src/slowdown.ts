/**
 * How far apart the ticks of a match lie (docs/PROTOCOL.md, section 9). A node with too much to do
 * lets two, three or four tick periods lie between two ticks. The protocol has no word for it:
 * clients see it in their snapshots.
 */

/** Most tick periods that lie between two ticks. */
const MOST = 4;
/** Least snapshots that it takes to notice a change. */
const LEAST = 9;
/** Least time that those have to cover at the match's own rate, in milliseconds. */
const LEAST_MS = 250;
/** How near the mean has to come to a whole number of periods. */
const NEAR = 0.25;

interface Arrival {
  readonly tick: number;
  readonly now: number;
}

/** Finds out how many periods lie between two ticks, from the arrival of snapshots. */
export class SlowdownMeter {
  private readonly arrivals: Arrival[] = [];
  private readonly most: number;
  /** How many periods lie between two ticks. */
  periods = 1;

  /** `period`: milliseconds a tick at the match's own rate. */
  constructor(private readonly period: number) {
    this.most = Math.max(LEAST, Math.ceil(LEAST_MS / period) + 1);
  }

  /** A snapshot newer than those before arrived. Whether the ticks lie further apart, or closer. */
  arrived(tick: number, now: number): boolean {
    this.arrivals.push({ tick, now });
    if (this.arrivals.length > this.most) this.arrivals.shift();
    const [first, last] = [this.arrivals[0], this.arrivals.at(-1)];
    if (this.arrivals.length < this.most || !first || !last) return false;
    const mean = this.apart(first, last);
    const found = Math.min(Math.max(Math.round(mean), 1), MOST);
    if (found === this.periods || Math.abs(mean - found) >= NEAR) return false;
    // One long gap moves the mean and not the median; snapshots that come in pairs move the median
    // and not the mean.
    if (Math.abs(this.median() - found) >= 0.5) return false;
    this.periods = found;
    return true;
  }

  private apart(from: Arrival, to: Arrival): number {
    return (to.now - from.now) / Math.max(1, to.tick - from.tick) / this.period;
  }

  private median(): number {
    const gaps = this.arrivals.slice(1).map((to, index) => this.apart(this.arrivals[index]!, to));
    gaps.sort((a, b) => a - b);
    return gaps[Math.floor(gaps.length / 2)] ?? 1;
  }
}
