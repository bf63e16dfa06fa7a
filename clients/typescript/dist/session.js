import { openEither } from "./carrier/either.js";
import { webSocketCarrier } from "./carrier/websocket.js";
import { webTransportCarrier } from "./carrier/webtransport.js";
import { Documents } from "./documents.js";
import { addressOf, Directory } from "./edge.js";
import { Addresses, spread, TIMING } from "./session/dialer.js";
import { Driver } from "./session/driver.js";
import { SessionState } from "./session/state.js";
function matchId(match) {
    return typeof match === "string" ? BigInt(`0x${match}`) : match;
}
/** What a browser, or Node, has. */
function surroundings(options) {
    const outside = globalThis;
    const wanted = options.carriers ?? ["webtransport", "websocket"];
    const transport = options.WebTransport ?? outside.WebTransport;
    const socket = options.WebSocket ?? outside.WebSocket;
    const ways = {
        webtransport: transport && wanted.includes("webtransport") ? webTransportCarrier(transport) : undefined,
        websocket: socket && wanted.includes("websocket") ? webSocketCarrier(socket) : undefined,
    };
    if (ways.webtransport === undefined && ways.websocket === undefined) {
        throw new Error(`no ${wanted.join(" or ")} here to connect by: pass \`WebSocket\` in the options (Node before 22)`);
    }
    const after = (ms, run) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
    };
    return {
        now: () => performance.now(),
        after,
        random: Math.random,
        open: (target, events) => openEither(ways, after, target, events),
        edge: async (url) => {
            const answer = await fetch(url, { signal: AbortSignal.timeout(3000), cache: "no-store" });
            if (!answer.ok)
                throw new Error(`${url} answers ${answer.status}`);
            return (await answer.json());
        },
    };
}
/** A session. Made by {@link connect}. */
export class Session {
    options;
    env;
    state;
    handlers = new Map();
    directory = new Directory();
    driver;
    stopped = false;
    constructor(options) {
        this.options = options;
        this.env = options.environment ?? surroundings(options);
        this.state = new SessionState(options.role ?? "player");
        void this.begin(this.env.now(), 0);
    }
    get origins() {
        const { edge } = this.options;
        return (typeof edge === "string" ? [edge] : [...edge]).map((url) => new URL(url).origin);
    }
    /** Learns by which carriers the nodes are reached, then begins to dial. */
    async begin(since, round) {
        const timing = { ...TIMING, ...this.options.timing };
        const { origins } = this;
        const origin = origins[round % origins.length];
        let problem;
        try {
            const edge = await this.env.edge(`${origin}/edge.json`);
            this.directory.learn(edge);
            const url = edge.webtransport?.url ?? edge.websocket?.url;
            if (this.stopped)
                return;
            if (url !== undefined)
                return this.dial(timing, [addressOf(url), ...origins.map(addressOf)]);
            problem = "the node offers no carrier for browsers";
        }
        catch (error) {
            problem = error instanceof Error ? error.message : error;
        }
        if (this.env.now() - since >= timing.giveUp) {
            return this.tell({
                type: "closed",
                code: undefined,
                message: `no node tells how to reach it: ${String(problem)}`,
            });
        }
        this.env.after(spread(Math.min(100 * 2 ** round, 2000), this.env.random()), () => {
            if (!this.stopped)
                void this.begin(since, round + 1);
        });
    }
    dial(timing, addresses) {
        const { role = "player", match, game, lobby, ticket = "", resume } = this.options;
        const credential = resume === undefined ? { type: "ticket", token: ticket } : { type: "resume", token: resume };
        this.driver = new Driver(this.env, timing, this.directory, new Addresses(addresses), { role, match: matchId(match), game, lobby }, credential, this.state, (event) => this.tell(event));
    }
    tell(event) {
        if (event.type === "closed") {
            this.stopped = true;
            this.state.questions.close(event.message);
        }
        for (const handler of this.handlers.get(event.type) ?? [])
            handler(event);
    }
    /** Calls `handler` for each event of a type. Returns how to end that. */
    on(type, handler) {
        const handlers = this.handlers.get(type) ?? new Set();
        this.handlers.set(type, handlers.add(handler));
        return () => handlers.delete(handler);
    }
    /** The newest welcome; `undefined` before the first. */
    get welcome() {
        return this.state.welcome;
    }
    /** Whether a connection carries the session at the moment. */
    get connected() {
        return this.driver?.line !== undefined;
    }
    /** The server's time, as far as it is known. Pass it {@link Session.now}. */
    get clock() {
        return this.state.clock;
    }
    /** The clock that the session goes by, in milliseconds. */
    now() {
        return this.env.now();
    }
    /**
     * Sends what the player wants in a tick: call it once a tick. `undefined` while there is no
     * connection, and for spectators.
     */
    input(payload) {
        if (!this.connected || this.state.role === "spectator")
            return undefined;
        const sent = this.state.input(payload, this.env.now());
        this.driver?.sendPacket();
        return sent;
    }
    /**
     * Sends a command, which is applied once whatever happens to connections and nodes. Returns its
     * number: `commandDone` names it. Throws without a session, and when 256 wait.
     */
    command(payload) {
        const command = this.state.command(payload);
        this.driver?.line?.send({ type: "command", ...command });
        return command.seq;
    }
    /**
     * The documents of a kind, which outlive matches. `T`: what a document has. May be asked before
     * there is a connection; on one below version 6 of the protocol everything is refused.
     */
    documents(kind) {
        return new Documents((asked) => this.ask(kind, asked));
    }
    ask(kind, asked) {
        return new Promise((resolve, reject) => {
            this.state.questions.ask(kind, JSON.stringify(asked), { resolve, reject });
            this.driver?.sendQuestions();
        });
    }
    /** The world to draw now, between two snapshots. `undefined` before the first. */
    scene() {
        return this.state.interpolator?.sample(this.clock.renderTick(this.env.now()));
    }
    get stats() {
        const { clock, counts, newest } = this.state;
        const line = this.driver?.line;
        return {
            carrier: line?.kind,
            node: line?.address,
            tick: newest,
            rtt: clock.rtt,
            jitter: clock.jitter,
            loss: this.state.loss(),
            clockOffset: clock.offset,
            redirects: counts.redirects,
            moves: counts.moves,
            repeatedEvents: counts.repeated,
            missedEvents: counts.gaps,
        };
    }
    /** Ends the session: the avatar leaves the match. `closed` follows. */
    leave() {
        if (this.driver)
            return this.driver.leave();
        this.tell({ type: "closed", code: undefined, message: "the client left" });
    }
}
/**
 * Begins a session. It dials by itself, and keeps the session until `closed`. Throws where there is
 * neither WebTransport nor WebSocket.
 */
export function connect(options) {
    return new Session(options);
}
