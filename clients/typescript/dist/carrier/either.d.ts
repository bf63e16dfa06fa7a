/**
 * Connects by WebTransport if that works, else by WebSocket: at once if WebTransport fails or there
 * is none, and beside it when it takes long. Whichever is open first is taken.
 */
import type { Carrier, CarrierEvents, OpenCarrier, Target } from "../carrier.js";
/** So long WebTransport has alone, in milliseconds. */
export declare const HEAD_START_MS = 1000;
/** Runs something later; returns how to call it off. */
export type After = (ms: number, run: () => void) => () => void;
/** `undefined`: this side has no such carrier. */
export interface Ways {
    readonly webtransport: OpenCarrier | undefined;
    readonly websocket: OpenCarrier | undefined;
}
/** Begins to connect to a node by one of the ways; `closed` is told when all have failed. */
export declare function openEither(ways: Ways, after: After, target: Target, events: CarrierEvents): Carrier;
