/**
 * Documents as a player's client asks them (docs/DOCUMENTS.md): what outlives matches, such as a
 * profile. `session/questions.ts` sends what is asked and finds who waits for an answer.
 */
/** An action that is called on a document. */
export interface DocumentCall {
    readonly action: string;
    /** The document's key. A player's own document often has the player's number: `"7"`. */
    readonly key: string;
    /** What the action declares as its arguments; left out if it takes none. */
    readonly args?: unknown;
    /** The call is refused unless the document has this version; 0: there is none. */
    readonly ifVersion?: number;
}
/** What came of a call. It is durable. */
export interface DocumentDone<Out = unknown> {
    readonly key: string;
    /** The version that the document has now. */
    readonly version: number;
    /** What the action returned; `undefined` if that is nothing. */
    readonly out: Out;
}
/** A document as it is read. */
export interface DocumentRow<T = unknown> {
    readonly key: string;
    readonly version: number;
    readonly document: T;
    /** What is calculated of it, by name; left out if nothing is. */
    readonly calculations?: Readonly<Record<string, unknown>>;
}
/** Which documents are listed, and in which order. Without anything: the first 100 by key. */
export interface DocumentQuery {
    /** Such as `rating >= 1500 and name != "x"`. */
    readonly filter?: string;
    /** The field to sort by, with `-` before it from high to low. */
    readonly sort?: string;
    /** Most rows, at most 1,000. With 0 only their number is told. */
    readonly limit?: number;
    /** So many are left out at the beginning. */
    readonly skip?: number;
}
/** The documents that a query found. */
export interface DocumentRows<T = unknown> {
    readonly rows: readonly DocumentRow<T>[];
    /** How many fit the filter. */
    readonly matching: number;
    /** There are more behind these rows: ask again with a greater `skip`. */
    readonly more: boolean;
}
/** What would come of calls: of each, or why one of them, the one at `at`, would be refused. */
export type DocumentOutcome = {
    readonly done: readonly DocumentDone[];
    readonly refused?: undefined;
} | {
    readonly done?: undefined;
    readonly refused: {
        readonly at: number;
        readonly code: string;
        readonly message: string;
    };
};
/**
 * Why a question or a call was not answered. `code` is the server's, such as `RK-DOC-104`
 * (docs/ERRORS.md), or one of this client's own:
 *
 * * `unknown`: the connection broke before the answer came.
 * * `closed`: the session is closed. This was not sent.
 * * `protocol`: the server does not speak version 6 of the protocol, or said what makes no sense.
 * * `spectator`: only players ask documents.
 * * `busy`: 256 others wait to be sent.
 * * `too-large`: what is asked has more than 16 KiB.
 */
export declare class DocumentError extends Error {
    readonly code: string;
    readonly unknown: boolean;
    readonly name = "DocumentError";
    /** `unknown`: calls may or may not have been applied. Otherwise they were not. */
    constructor(code: string, message: string, unknown?: boolean);
}
/**
 * The documents of a kind, asked as the player of the session. `T` is what a document has, as the
 * game declares it; that is not checked. What is not answered rejects with a {@link DocumentError}.
 *
 * Four questions are on their way at a time, the others wait, in order, also for the next
 * connection. What was sent over a connection that breaks is not sent again.
 */
export declare class Documents<T = unknown> {
    private readonly ask;
    constructor(ask: (asked: object) => Promise<unknown>);
    /** Calls an action on a document. */
    call<Out = unknown>(action: string, key: string, args?: unknown, options?: {
        readonly ifVersion?: number;
    }): Promise<DocumentDone<Out>>;
    /** Calls several actions, which are applied in order: all of them, or none. */
    callAll(calls: readonly DocumentCall[]): Promise<readonly DocumentDone[]>;
    /** Reads a document; `undefined` if there is none. */
    get(key: string): Promise<DocumentRow<T> | undefined>;
    /** Lists documents. */
    query(query?: DocumentQuery): Promise<DocumentRows<T>>;
    /** The aggregates of the kind by name, and `documents`: how many there are. */
    stats(): Promise<Readonly<Record<string, unknown>>>;
    /** What would come of these calls. Nothing is changed. */
    can(calls: readonly DocumentCall[]): Promise<DocumentOutcome>;
}
