/**
 * Prediction: a client shows what its own inputs do at once, and when the server's word comes
 * repeats those that it does not cover.
 */
/** Most inputs that are repeated; the oldest are given up beyond that. */
const MAX_PENDING = 128;
/** Predicts one avatar, tick by tick. */
export class Prediction {
    predictor;
    pending = [];
    /** The newest input that the server's word covers. */
    applied;
    base;
    steps = [];
    constructor(predictor) {
        this.predictor = predictor;
    }
    /** An input was sent: its number, and the tick that it is meant for. */
    push(seq, target, input) {
        this.pending.push({ seq, target, input });
        if (this.pending.length > MAX_PENDING)
            this.pending.shift();
        // What was computed for ticks from its target on goes by the input before it.
        if (this.base !== undefined)
            this.steps.length = Math.min(this.steps.length, Math.max(0, target - this.base.tick - 1));
    }
    /** The server's state after `tick`, in which inputs up to number `seq` were applied. */
    reconcile(tick, state, seq) {
        this.base = { tick, state };
        this.steps = [];
        this.applied = this.pending.filter((item) => item.seq <= seq).at(-1) ?? this.applied;
        this.pending = this.pending.filter((item) => item.seq > seq);
    }
    /** Starts over: a rewind, a respawn, another connection. */
    reset() {
        [this.pending, this.applied, this.base, this.steps] = [[], undefined, undefined, []];
    }
    /** How many inputs wait for the server's word. */
    get waiting() {
        return this.pending.length;
    }
    /**
     * The state after `tick`: at most as many ticks ahead of the server's word as inputs are kept.
     * `undefined` before that word.
     */
    at(tick) {
        if (this.base === undefined)
            return undefined;
        const ahead = Math.min(tick - this.base.tick, MAX_PENDING);
        if (ahead <= 0)
            return this.base.state;
        while (this.steps.length < ahead) {
            const now = this.base.tick + this.steps.length + 1;
            const newest = this.pending.filter((item) => item.target <= now).at(-1) ?? this.applied;
            const before = this.steps.at(-1) ?? this.base.state;
            this.steps.push(this.predictor.step(before, newest?.input));
        }
        return this.steps[ahead - 1];
    }
}
