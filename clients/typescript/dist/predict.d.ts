/**
 * Prediction: a client shows what its own inputs do at once, and when the server's word comes
 * repeats those that it does not cover.
 */
/** How a game's avatar moves. Both functions are pure. */
export interface Predictor<Input, State> {
    /** The state one tick later. `undefined`: the server has no input of this player yet. */
    step(state: State, input: Input | undefined): State;
}
/** Predicts one avatar, tick by tick. */
export declare class Prediction<Input, State> {
    private readonly predictor;
    private pending;
    /** The newest input that the server's word covers. */
    private applied;
    private base;
    private steps;
    constructor(predictor: Predictor<Input, State>);
    /** An input was sent: its number, and the tick that it is meant for. */
    push(seq: number, target: number, input: Input): void;
    /** The server's state after `tick`, in which inputs up to number `seq` were applied. */
    reconcile(tick: number, state: State, seq: number): void;
    /** Starts over: a rewind, a respawn, another connection. */
    reset(): void;
    /** How many inputs wait for the server's word. */
    get waiting(): number;
    /**
     * The state after `tick`: at most as many ticks ahead of the server's word as inputs are kept.
     * `undefined` before that word.
     */
    at(tick: number): State | undefined;
}
