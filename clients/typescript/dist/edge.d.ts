/** Where nodes are, and by which carriers they are reached. */
import type { Target } from "./carrier.js";
/** What a node publishes at `/edge.json`. */
export interface Edge {
    readonly protocols: readonly number[];
    readonly node: string;
    readonly webtransport?: {
        readonly url: string;
        readonly hashes?: readonly string[];
    };
    readonly websocket?: {
        readonly url: string;
        readonly protocol?: string;
        readonly datagrams: boolean;
    };
    readonly games: readonly string[];
    /** Whether `POST /play/ticket` gives tickets to anybody. */
    readonly guest: boolean;
}
/** Whether somebody can be at `host:port`. */
export declare function isUsable(address: string): boolean;
/** `host:port` of a URL, the port always said. */
export declare function addressOf(url: string): string;
/** Builds targets of addresses; all nodes of a cluster are reached as the first one is. */
export declare class Directory {
    private hashes;
    private certified;
    private webtransport;
    private websocket;
    private protocol;
    private version;
    /** What a node published. */
    learn(edge: Edge): void;
    /** The version of the protocol that nodes are greeted in. */
    get speaks(): number;
    /** A node refused that version: whether there is a lower one to try. */
    speakLess(): boolean;
    /** Whether anything was learnt. */
    get isKnown(): boolean;
    target(address: string): Target;
    /** Where the node at an address publishes what it is reached by. */
    page(address: string): string;
}
