/**
 * Documents as a player's client asks them (docs/DOCUMENTS.md): what outlives matches, such as a
 * profile. `session/questions.ts` sends what is asked and finds who waits for an answer.
 */
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
export class DocumentError extends Error {
    code;
    unknown;
    name = "DocumentError";
    /** `unknown`: calls may or may not have been applied. Otherwise they were not. */
    constructor(code, message, unknown = false) {
        super(message);
        this.code = code;
        this.unknown = unknown;
    }
}
/** What the server reads as a call. */
const sent = (calls) => calls.map(({ action, key, args, ifVersion }) => ({ action, key, args, if_version: ifVersion }));
/** A part of an answer, which is whatever the server said. */
function part(answer, ...path) {
    for (const name of path) {
        if (typeof answer !== "object" || answer === null || !(name in answer)) {
            throw new DocumentError("protocol", `the server's answer lacks "${name}"`, true);
        }
        answer = answer[name];
    }
    return answer;
}
/**
 * The documents of a kind, asked as the player of the session. `T` is what a document has, as the
 * game declares it; that is not checked. What is not answered rejects with a {@link DocumentError}.
 *
 * Four questions are on their way at a time, the others wait, in order, also for the next
 * connection. What was sent over a connection that breaks is not sent again.
 */
export class Documents {
    ask;
    constructor(ask) {
        this.ask = ask;
    }
    /** Calls an action on a document. */
    async call(action, key, args, options = {}) {
        const answer = await this.ask({ calls: sent([{ ...options, action, key, args }]) });
        return part(answer, "done", "0");
    }
    /** Calls several actions, which are applied in order: all of them, or none. */
    async callAll(calls) {
        return part(await this.ask({ calls: sent(calls) }), "done");
    }
    /** Reads a document; `undefined` if there is none. */
    async get(key) {
        const found = part(await this.ask({ get: { key } }), "reply", "document");
        return found ?? undefined;
    }
    /** Lists documents. */
    async query(query = {}) {
        return part(await this.ask({ query }), "reply", "rows");
    }
    /** The aggregates of the kind by name, and `documents`: how many there are. */
    async stats() {
        const answer = await this.ask({ stats: null });
        return part(answer, "reply", "stats");
    }
    /** What would come of these calls. Nothing is changed. */
    async can(calls) {
        const answer = await this.ask({ can: { calls: sent(calls) } });
        return part(answer, "reply", "can");
    }
}
