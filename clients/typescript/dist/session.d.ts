/** A player's or spectator's session with a match, which outlives connections and nodes. */
import type { CarrierKind } from "./carrier.js";
import { type WebSocketConstructor } from "./carrier/websocket.js";
import { type WebTransportConstructor } from "./carrier/webtransport.js";
import type { ClockSync } from "./clock.js";
import { Documents } from "./documents.js";
import type { EventOf, SessionEvent } from "./events.js";
import type { Scene } from "./interpolate.js";
import type { Role, Welcome } from "./messages.js";
import { type Timing } from "./session/dialer.js";
import { type Lobby } from "./session/driver.js";
import type { Environment } from "./session/line.js";
import { type SentInput } from "./session/state.js";
/** What a session is begun with. */
export interface SessionOptions {
    /** Nodes to ask: their origins, such as `location.origin`. */
    readonly edge: string | readonly string[];
    /** A ticket. */
    readonly ticket?: string;
    /** Or the resume token of an earlier session. */
    readonly resume?: string;
    /** To play (the default) or to watch. */
    readonly role?: Role;
    /** 16 hexadecimal digits, or the number; without it the ticket decides. */
    readonly match?: string | bigint;
    /** Only a match of this game. */
    readonly game?: string;
    /** Instead of `match`: one of `game` with a free seat, on whichever node. */
    readonly lobby?: Lobby;
    /** Carriers to use, all by default; WebTransport is tried first. */
    readonly carriers?: readonly CarrierKind[];
    readonly timing?: Partial<Timing>;
    /** Instead of the global one: Node 20 has none. */
    readonly WebSocket?: WebSocketConstructor;
    readonly WebTransport?: WebTransportConstructor;
    /** A time and a network for tests. */
    readonly environment?: Environment;
}
/** How a session goes. Times are milliseconds. */
export interface Stats {
    /** `undefined` while there is no connection. */
    readonly carrier: CarrierKind | undefined;
    /** The node that has the session, `host:port`. */
    readonly node: string | undefined;
    /** The newest tick of the server that was seen. */
    readonly tick: number;
    readonly rtt: number;
    readonly jitter: number;
    /** The part of snapshots that did not come of late, 0 to 1. */
    readonly loss: number;
    /** The server's time (ticks in milliseconds) minus this client's clock. */
    readonly clockOffset: number;
    readonly redirects: number;
    readonly moves: number;
    /** Events that came again and were not told twice. */
    readonly repeatedEvents: number;
    /** Times that events may have been missed. */
    readonly missedEvents: number;
}
type Handler<T extends SessionEvent["type"]> = (event: EventOf<T>) => void;
/** A session. Made by {@link connect}. */
export declare class Session {
    private readonly options;
    private readonly env;
    private readonly state;
    private readonly handlers;
    private readonly directory;
    private driver;
    private stopped;
    constructor(options: SessionOptions);
    private get origins();
    /** Learns by which carriers the nodes are reached, then begins to dial. */
    private begin;
    private dial;
    private tell;
    /** Calls `handler` for each event of a type. Returns how to end that. */
    on<T extends SessionEvent["type"]>(type: T, handler: Handler<T>): () => void;
    /** The newest welcome; `undefined` before the first. */
    get welcome(): Welcome | undefined;
    /** Whether a connection carries the session at the moment. */
    get connected(): boolean;
    /** The server's time, as far as it is known. Pass it {@link Session.now}. */
    get clock(): ClockSync;
    /** The clock that the session goes by, in milliseconds. */
    now(): number;
    /**
     * Sends what the player wants in a tick: call it once a tick. `undefined` while there is no
     * connection, and for spectators.
     */
    input(payload: Uint8Array): SentInput | undefined;
    /**
     * Sends a command, which is applied once whatever happens to connections and nodes. Returns its
     * number: `commandDone` names it. Throws without a session, and when 256 wait.
     */
    command(payload: Uint8Array): number;
    /**
     * The documents of a kind, which outlive matches. `T`: what a document has. May be asked before
     * there is a connection; on one below version 6 of the protocol everything is refused.
     */
    documents<T = unknown>(kind: string): Documents<T>;
    private ask;
    /** The world to draw now, between two snapshots. `undefined` before the first. */
    scene(): Scene | undefined;
    get stats(): Stats;
    /** Ends the session: the avatar leaves the match. `closed` follows. */
    leave(): void;
}
/**
 * Begins a session. It dials by itself, and keeps the session until `closed`. Throws where there is
 * neither WebTransport nor WebSocket.
 */
export declare function connect(options: SessionOptions): Session;
export {};
