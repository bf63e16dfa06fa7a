/**
 * Reaches a node: overlapping attempts over all known addresses, the first that is open wins.
 * Rounds come at growing intervals, each client's at moments of its own.
 */
import { type Directory } from "../edge.js";
import { Line, type Environment } from "./line.js";
/** When a client becomes impatient, in milliseconds. */
export interface Timing {
    /** A server that sent nothing for so long, by WebTransport, is looked for elsewhere. */
    readonly silence: number;
    /** The same by WebSocket, where one lost packet holds up all that follow. */
    readonly silenceWebSocket: number;
    /** From one address to the next, attempts overlapping. */
    readonly redial: number;
    /** From one round over all addresses to the next; then twice, then four times as long. */
    readonly redialRound: number;
    /** An attempt of the first round; then twice, then four times as long. */
    readonly attempt: number;
    /** From the handshake to the welcome. */
    readonly welcome: number;
    /** Without a session for so long, the client gives up. */
    readonly giveUp: number;
}
export declare const TIMING: Timing;
/** A quarter more or less. */
export declare const spread: (ms: number, random: number) => number;
/** How long to wait after a server answered and did not serve. */
export declare function backOff(times: number, trying: number, random: number): number;
/** Knows where nodes may be; the next attempt goes to the first. */
export declare class Addresses {
    private list;
    private readonly given;
    /** A server has said that the match is at the first. */
    told: boolean;
    constructor(given: readonly string[]);
    get count(): number;
    /** The next to try, which then becomes the last. */
    take(): string | undefined;
    knowsAnother(address: string): boolean;
    prefer(address: string): void;
    avoid(address: string): void;
    /** The cluster's nodes, says the one at `keep`: others that were learnt are forgotten. */
    learn(named: readonly string[], keep: string, random: number): void;
}
/** A search for a node that goes on until one is reached or it is stopped. */
export declare class Search {
    private readonly env;
    private readonly timing;
    private readonly directory;
    private readonly addresses;
    /** How many rounds were made since a server last took the session on. */
    private rounds;
    private readonly reached;
    private readonly attempts;
    private callOff;
    private started;
    private over;
    /** What the last attempt that failed said. */
    lastError: string | undefined;
    constructor(env: Environment, timing: Timing, directory: Directory, addresses: Addresses, 
    /** How many rounds were made since a server last took the session on. */
    rounds: number, reached: (line: Line) => void);
    stop(): void;
    private step;
    private attempt;
    private refresh;
}
