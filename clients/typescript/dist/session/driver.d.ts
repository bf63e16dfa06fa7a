/**
 * Keeps a client's session: dials, shows the credential, serves the connection, and starts over
 * when the server is gone (docs/PROTOCOL.md, section 4). While the old connection is merely silent,
 * a new one is dialled beside it; whichever speaks first wins.
 */
import type { Closed } from "../carrier.js";
import { type Directory } from "../edge.js";
import type { SessionEvent } from "../events.js";
import { type Credential, type Role, type ServerMessage } from "../messages.js";
import { type Addresses, type Timing } from "./dialer.js";
import type { Environment, Line, LineHandler } from "./line.js";
import type { SessionState } from "./state.js";
/** What a client wants of a match that it does not name: `game` says of which game. */
export interface Lobby {
    /** The match has all of them, such as `{ mode: "duel" }`. */
    readonly properties?: Readonly<Record<string, string>>;
    /** If no match with them has a free seat, one is to be made, if the node's operator allows it. */
    readonly create?: boolean;
}
export interface Wishes {
    readonly role: Role;
    readonly match: bigint | undefined;
    readonly game: string | undefined;
    readonly lobby: Lobby | undefined;
}
export declare class Driver implements LineHandler {
    private readonly env;
    private readonly timing;
    private readonly directory;
    private readonly addresses;
    private readonly wishes;
    private credential;
    private readonly state;
    private readonly tell;
    private link;
    private search;
    private warm;
    private callOff;
    private giveUp;
    private match;
    /** Redirects that were followed since the last welcome. */
    private redirects;
    /** The server that is left has said where the match goes on. */
    private moving;
    private servedBy;
    /** The server that fell silent, until one takes the session on. */
    private silent;
    private heardAt;
    /** Since when no connection was good, and how many in a row were not. */
    private since;
    private failures;
    private rounds;
    private lastRefusal;
    private over;
    private leaving;
    constructor(env: Environment, timing: Timing, directory: Directory, addresses: Addresses, wishes: Wishes, credential: Credential, state: SessionState, tell: (event: SessionEvent) => void);
    /** The line that carries the session. */
    get line(): Line | undefined;
    sendPacket(): void;
    /** Sends what documents are asked, if the server has not fallen silent and is not left. */
    sendQuestions(): void;
    /** Ends the session. */
    leave(): void;
    private finish;
    /** Goes on: over a line that is open already, or with a search. Pauses after failures. */
    private proceed;
    private look;
    private reached;
    /** Shows the credential over a line that is open. */
    private enter;
    private hello;
    private welcomed;
    private patience;
    private fellSilent;
    private good;
    private heard;
    /** Closes the connection, and notes whether it was good. */
    private endLink;
    private disconnected;
    private lost;
    private refused;
    /** The match is at `address`, says a server. */
    private lead;
    /** A server to which the session was shown sends the client on. */
    private redirected;
    /** The old server has said where the match goes on, and is gone. */
    private left;
    /** The match's standby is at `address`: keeps a connection to it. */
    private keepWarm;
    private goesOn;
    opened(): void;
    message(line: Line, message: ServerMessage): void;
    private beforeWelcome;
    datagram(line: Line, bytes: Uint8Array): void;
    closed(line: Line, { refusal, reason }: Closed): void;
}
