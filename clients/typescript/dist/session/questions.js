/**
 * What a client asks documents: what waits to be sent, and what waits for its answer. No I/O: what
 * is to be sent is returned. `driver.ts` says when a connection carries the session, and when not.
 */
import { DocumentError } from "../documents.js";
import { encodeClient, PROTOCOL_6 } from "../messages.js";
/** Most questions on their way: a server refuses a fifth. */
const MAX_SENT = 4;
/** Most questions that wait to be sent. */
const MAX_WAITING = 256;
/** Most bytes of a message that a server reads from a player. */
const MAX_ASKED = 16_384;
const isOld = (protocol) => protocol !== undefined && protocol < PROTOCOL_6;
const tooOld = () => new DocumentError("protocol", "the server has no documents: it speaks a version below 6");
/** What an answer says, or why the server has done nothing. */
function read({ done, json }) {
    try {
        const said = JSON.parse(json);
        if (done)
            return said;
        const { code, message } = said;
        if (typeof code === "string" && typeof message === "string") {
            // Only with this code the server itself does not know.
            return new DocumentError(code, message, code === "RK-DOC-122");
        }
    }
    catch {
        // It is no JSON, or `null`.
    }
    return new DocumentError("protocol", "the server's answer makes no sense", true);
}
export class Questions {
    isSpectator;
    /** The version that the connection speaks which carries the session; without one `undefined`. */
    protocol;
    waiting = [];
    sent = [];
    asked = 0;
    closed;
    constructor(isSpectator) {
        this.isSpectator = isSpectator;
    }
    /** Puts a question behind those that wait. Throws if it can never be answered. */
    ask(kind, json, asker) {
        const message = { type: "documents", id: this.asked + 1, kind, json };
        if (this.closed !== undefined)
            throw new DocumentError("closed", this.closed);
        if (this.isSpectator)
            throw new DocumentError("spectator", "a spectator asks no documents");
        if (isOld(this.protocol))
            throw tooOld();
        if (this.waiting.length >= MAX_WAITING) {
            throw new DocumentError("busy", `${MAX_WAITING} questions to documents wait already`);
        }
        // The server would end the session. The length in front does not count.
        const bytes = encodeClient(message).length - 4;
        if (bytes > MAX_ASKED) {
            throw new DocumentError("too-large", `a question of ${bytes} bytes: at most ${MAX_ASKED}`);
        }
        this.asked += 1;
        this.waiting.push({ message, asker });
    }
    /** A connection carries the session now. */
    opened(protocol) {
        this.protocol = protocol;
        if (isOld(protocol))
            this.refuse(tooOld());
    }
    /** What the connection that carries the session may be given now. */
    next() {
        const next = this.waiting.splice(0, MAX_SENT - this.sent.length);
        this.sent.push(...next);
        return next.map(({ message }) => message);
    }
    /** An answer came. One to nothing that was asked counts for nothing. */
    answered(answer) {
        const question = this.sent.find(({ message }) => message.id === answer.id);
        if (!question)
            return;
        this.sent = this.sent.filter((other) => other !== question);
        const said = read(answer);
        if (said instanceof DocumentError)
            question.asker.reject(said);
        else
            question.asker.resolve(said);
    }
    /** The connection is gone. Of what it took with it nobody knows whether it was applied. */
    broke() {
        this.protocol = undefined;
        const words = "the connection broke before the answer came: it is unknown whether calls were applied; " +
            "read the document before they are called again";
        for (const { asker } of this.sent.splice(0)) {
            asker.reject(new DocumentError("unknown", words, true));
        }
    }
    /** The session is over: nothing is asked any more. */
    close(why) {
        this.broke();
        this.closed = `the session is closed: ${why}`;
        this.refuse(new DocumentError("closed", this.closed));
    }
    refuse(error) {
        for (const { asker } of this.waiting.splice(0))
            asker.reject(error);
    }
}
