/** One connection to a node: a carrier, and the messages cut out of its stream. */
import type { Carrier, CarrierEvents, Closed, Target } from "../carrier.js";
import type { Edge } from "../edge.js";
import { type ClientMessage, type ServerMessage } from "../messages.js";
/** The world outside, so that tests have a time and a network of their own. */
export interface Environment {
    /** Milliseconds of a clock that never jumps. */
    now(): number;
    /** Runs something later; returns how to call it off. */
    after(ms: number, run: () => void): () => void;
    /** 0 to 1. */
    random(): number;
    /** Begins to connect. Tells nothing before it has returned. */
    open(target: Target, events: CarrierEvents): Carrier;
    /** Reads what a node publishes. */
    edge(url: string): Promise<Edge>;
}
/** Who is told what comes over a line. */
export interface LineHandler {
    opened(line: Line): void;
    message(line: Line, message: ServerMessage): void;
    datagram(line: Line, bytes: Uint8Array): void;
    closed(line: Line, closed: Closed): void;
}
export declare class Line {
    handler: LineHandler;
    readonly address: string;
    private readonly carrier;
    private readonly framer;
    private over;
    constructor(env: Environment, target: Target, handler: LineHandler);
    get kind(): Carrier["kind"];
    private stream;
    private end;
    send(message: ClientMessage): void;
    datagram(bytes: Uint8Array): void;
    /** Ends the connection; nobody is told. */
    close(): void;
}
