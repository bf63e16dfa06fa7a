/**
 * What a client asks documents: what waits to be sent, and what waits for its answer. No I/O: what
 * is to be sent is returned. `driver.ts` says when a connection carries the session, and when not.
 */
import { DocumentError } from "../documents.js";
import { type ClientMessage, type ServerMessage } from "../messages.js";
type Asked = Extract<ClientMessage, {
    type: "documents";
}>;
type Answer = Extract<ServerMessage, {
    type: "documents";
}>;
/** Who waits for an answer. */
interface Asker {
    readonly resolve: (answer: unknown) => void;
    readonly reject: (error: DocumentError) => void;
}
export declare class Questions {
    private readonly isSpectator;
    /** The version that the connection speaks which carries the session; without one `undefined`. */
    private protocol;
    private waiting;
    private sent;
    private asked;
    private closed;
    constructor(isSpectator: boolean);
    /** Puts a question behind those that wait. Throws if it can never be answered. */
    ask(kind: string, json: string, asker: Asker): void;
    /** A connection carries the session now. */
    opened(protocol: number): void;
    /** What the connection that carries the session may be given now. */
    next(): readonly Asked[];
    /** An answer came. One to nothing that was asked counts for nothing. */
    answered(answer: Answer): void;
    /** The connection is gone. Of what it took with it nobody knows whether it was applied. */
    broke(): void;
    /** The session is over: nothing is asked any more. */
    close(why: string): void;
    private refuse;
}
export {};
