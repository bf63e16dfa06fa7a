import { SlowdownMeter } from "./slowdown.js";
/** Time is stretched or squeezed by at most this part. */
const DILATION = 0.05;
/** A difference above this many ticks is jumped over: an outage, a rewind. */
const JUMP = 12;
/** Without snapshots, time runs on for at most so many milliseconds. */
const COAST_MS = 500;
/** Weight of a new sample once the estimate has settled. */
const GAIN = 1 / 24;
/** Spare time that inputs are sent early besides jitter, in ticks. */
const LEAD_TICKS = 1;
/** What an input on time leaves of the additional lead. */
const LEAD_DECAY = 0.995;
/** Most additional lead, in milliseconds. */
const LEAD_MOST_MS = 200;
/** A running time that follows an estimate without jumps. */
class Follower {
    then;
    value = 0;
    follow(now, wanted, period) {
        if (this.then === undefined) {
            this.value = wanted;
        }
        else {
            const step = Math.max(0, now - this.then) / period;
            const error = wanted - (this.value + step);
            const most = step * DILATION;
            this.value =
                Math.abs(error) > JUMP
                    ? wanted
                    : this.value + step + Math.min(Math.max(error, -most), most);
        }
        this.then = Math.max(now, this.then ?? now);
        return this.value;
    }
}
/** Estimates the server's tick. All times are milliseconds of one clock of the client. */
export class ClockSync {
    meter;
    ownPeriod;
    /** Milliseconds a tick, as the match goes now: a client makes an input about as often. */
    period;
    samples = 0;
    rttSamples = 0;
    newest = 0;
    arrived = 0;
    extra = 0;
    targets = new Follower();
    renders = new Follower();
    /** The round trip in milliseconds, smoothed. 0 before the first echo. */
    rtt = 0;
    /** Mean deviation of the arrival of snapshots from even spacing, in milliseconds. */
    jitter = 0;
    /** `tick * period - time of arrival`, averaged, in milliseconds. */
    offset = 0;
    constructor(tickRate) {
        this.ownPeriod = 1000 / Math.max(1, tickRate);
        this.period = this.ownPeriod;
        this.meter = new SlowdownMeter(this.ownPeriod);
    }
    /** How many times longer than its rate says a tick takes: 1, or 2 to 4 while a node is overloaded. */
    get slowdown() {
        return this.meter.periods;
    }
    /** A snapshot arrived at `now`. An echo of 0 gives no round trip. */
    onSnapshot(now, header) {
        if (header.echo !== 0) {
            const held = ((Math.floor(now) >>> 0) - header.echo - header.held) | 0;
            // Clocks of whole milliseconds can make it -1; hours are a client that was asleep.
            if (held < 60_000) {
                this.rttSamples += 1;
                this.rtt += (Math.max(held, 0) - this.rtt) * Math.max(GAIN, 1 / this.rttSamples);
            }
        }
        if (this.samples > 0 && header.tick <= this.newest)
            return;
        if (this.meter.arrived(header.tick, now)) {
            // The match goes at another rate: what was learnt of its time is of no use any more.
            [this.period, this.samples, this.extra] = [this.ownPeriod * this.slowdown, 0, 0];
            [this.targets, this.renders] = [new Follower(), new Follower()];
        }
        const sample = header.tick * this.period - now;
        const error = sample - this.offset;
        if (this.samples === 0 || Math.abs(error) > JUMP * this.period) {
            [this.samples, this.offset, this.jitter] = [1, sample, 0];
        }
        else {
            this.samples += 1;
            const gain = Math.max(GAIN, 1 / this.samples);
            this.offset += error * gain;
            this.jitter += (Math.abs(error) - this.jitter) * gain;
        }
        this.newest = header.tick;
        this.arrived = now;
    }
    /** An input meant for tick `target` was applied at `applied`: late ones make later ones earlier. */
    onApplied(target, applied) {
        const late = Math.max(0, applied - target) * this.period;
        this.extra = late > 0 ? this.extra + late / 4 : this.extra * LEAD_DECAY;
        this.extra = Math.min(Math.max(this.extra, 0), LEAD_MOST_MS);
    }
    /** The tick whose snapshot is expected to arrive at `now`. */
    arriving(now) {
        return (Math.min(now, this.arrived + COAST_MS) + this.offset) / this.period;
    }
    /** The running time of inputs, in ticks: an input made at `now` is for the tick at its end. */
    targetTime(now) {
        if (this.samples === 0)
            return 0;
        const lead = (this.rtt + 2 * this.jitter + this.extra) / this.period + LEAD_TICKS;
        return Math.max(0, this.targets.follow(now, this.arriving(now) + lead, this.period));
    }
    /** The tick that an input made at `now` should name. 0 before the first snapshot. */
    targetTick(now) {
        return Math.ceil(this.targetTime(now));
    }
    /** The tick, with a fraction, to draw others at. */
    renderTick(now) {
        if (this.samples === 0)
            return 0;
        const wanted = this.arriving(now) - 1 - (2 * this.jitter) / this.period;
        return Math.max(0, this.renders.follow(now, wanted, this.period));
    }
}
