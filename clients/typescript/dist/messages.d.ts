import { type Schema } from "./schema.js";
/** The version of the protocol that browsers speak. */
export declare const PROTOCOL = 4;
/** The version of clients that read range coded snapshots; it has the messages of version 4. */
export declare const PROTOCOL_5 = 5;
/** The version of clients that may look for a match by its properties, and ask documents. */
export declare const PROTOCOL_6 = 6;
/** Most redirects in a row that are followed. */
export declare const MAX_REDIRECTS = 4;
/** Most beats that a client tells a server. */
export declare const MAX_STOOD_BEATS = 8;
export type Role = "player" | "spectator";
/** What lets a client in. */
export type Credential = {
    readonly type: "ticket";
    readonly token: string;
} | {
    readonly type: "resume";
    readonly token: string;
};
/** Why a server refuses; the number is its place. */
export declare const REFUSALS: readonly ["protocol", "credential", "no-match", "full", "ended", "unavailable", "rate-limited", "draining", "superseded", "malformed", "overloaded", "removed"];
export type Refusal = (typeof REFUSALS)[number];
/** Whether trying again may help: here or at another node. */
export declare function isTemporary(code: Refusal): boolean;
/** The hash of a match after a tick. */
export interface Beat {
    readonly tick: number;
    /** 32 bytes. */
    readonly hash: Uint8Array;
}
/** Where a client stood, for a server that it comes back to. */
export interface Stood {
    readonly epoch: number;
    readonly tick: number;
    /** Newest first. */
    readonly beats: readonly Beat[];
}
/** How far events were told: all before `tick`, and of `tick` those before `ordinal`. */
export interface Heard {
    readonly tick: number;
    readonly ordinal: number;
}
/** Who wants in, and where to. */
export interface Hello {
    readonly protocol: number;
    readonly role: Role;
    readonly credential: Credential;
    readonly match: bigint | undefined;
}
export interface Enter extends Hello {
    readonly game: string | undefined;
    readonly stood: Stood | undefined;
}
export interface Arrive extends Enter {
    readonly heard: Heard | undefined;
    readonly redirects: number;
}
/** Who wants into a match by its properties. */
export interface Seek extends Arrive {
    /** The match has all of them. */
    readonly properties: Readonly<Record<string, string>>;
    /** If no match with them has a free seat, one is to be made. */
    readonly create: boolean;
}
export type ClientMessage = ({
    readonly type: "hello";
} & Hello) | {
    readonly type: "command";
    readonly seq: number;
    readonly payload: Uint8Array;
} | {
    readonly type: "bye";
} | ({
    readonly type: "enter";
} & Enter) | ({
    readonly type: "arrive";
} & Arrive) | ({
    readonly type: "wait";
} & Hello) | ({
    readonly type: "seek";
} & Seek) | {
    readonly type: "documents";
    readonly id: number;
    readonly kind: string;
    /** What is asked, as JSON. */
    readonly json: string;
};
export interface Welcome {
    readonly match: bigint;
    readonly game: string;
    readonly epoch: number;
    /** The newest tick that was published. */
    readonly tick: number;
    /** Ticks per second. */
    readonly tickRate: number;
    readonly player: bigint;
    /** 0 for spectators. */
    readonly session: bigint;
    /** The session was there already. */
    readonly resumed: boolean;
    readonly resumeToken: string;
    readonly nextInput: number;
    readonly nextCommand: number;
    readonly schema: Schema;
    /** The game's configuration of this match, in the game's encoding. */
    readonly config: Uint8Array;
}
export type ServerMessage = ({
    readonly type: "welcome";
} & Welcome) | {
    readonly type: "refused";
    readonly code: Refusal;
    readonly message: string;
} | {
    readonly type: "commandDone";
    readonly seq: number;
    readonly tick: number;
    readonly accepted: boolean;
} | ({
    readonly type: "beat";
} & Beat) | {
    readonly type: "event";
    readonly tick: number;
    readonly ordinal: number;
    readonly kind: string;
    readonly payload: Uint8Array;
} | {
    readonly type: "rewound";
    readonly epoch: number;
    readonly to: number;
} | {
    readonly type: "redirect";
    readonly address: string;
} | {
    readonly type: "ended";
    readonly reason: string;
} | {
    readonly type: "nodes";
    readonly addresses: readonly string[];
} | {
    readonly type: "eventsMissed";
    readonly from: number;
    readonly to: number;
} | {
    readonly type: "standby";
    readonly address: string | undefined;
} | {
    readonly type: "here";
    readonly match: bigint;
    readonly epoch: number;
} | {
    readonly type: "documents";
    /** The client's number for what it asked. */
    readonly id: number;
    readonly done: boolean;
    /** The answer; of what was not done, an object with `code` and `message`. */
    readonly json: string;
};
/** A message as it stands on the stream, its length in front. */
export declare function encodeClient(message: ClientMessage): Uint8Array;
/** Reads a client's message (without its length): for servers of tests. */
export declare function decodeClient(message: Uint8Array): ClientMessage;
/** Reads a server's message (without its length). */
export declare function decodeServer(message: Uint8Array): ServerMessage;
/** A server's message as it stands on the stream: for servers of tests. */
export declare function encodeServer(message: ServerMessage): Uint8Array;
