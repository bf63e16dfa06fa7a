import { isUsable } from "../edge.js";
import { isTemporary, MAX_REDIRECTS, PROTOCOL, PROTOCOL_6, REFUSALS, } from "../messages.js";
import { backOff, Search } from "./dialer.js";
import { Warm } from "./warm.js";
import { Watch } from "./watch.js";
/** A connection that carried the session for so long was good. */
const STEADY = 2000;
/** So often a client that was never in its match asks other addresses for it. */
const ASKED_ELSEWHERE = 6;
/** How long a leaving client waits for the server to close. */
const GOODBYE = 500;
export class Driver {
    env;
    timing;
    directory;
    addresses;
    wishes;
    credential;
    state;
    tell;
    link;
    search;
    warm;
    callOff = () => undefined;
    giveUp;
    match;
    /** Redirects that were followed since the last welcome. */
    redirects = 0;
    /** The server that is left has said where the match goes on. */
    moving = false;
    servedBy;
    /** The server that fell silent, until one takes the session on. */
    silent;
    heardAt;
    /** Since when no connection was good, and how many in a row were not. */
    since;
    failures = 0;
    rounds = 0;
    lastRefusal;
    over = false;
    leaving = false;
    constructor(env, timing, directory, addresses, wishes, credential, state, tell) {
        this.env = env;
        this.timing = timing;
        this.directory = directory;
        this.addresses = addresses;
        this.wishes = wishes;
        this.credential = credential;
        this.state = state;
        this.tell = tell;
        this.match = wishes.match;
        this.since = this.heardAt = env.now();
        this.proceed();
    }
    /** The line that carries the session. */
    get line() {
        return this.link?.watch && this.link.line;
    }
    sendPacket() {
        const packet = this.state.packet(this.env.now());
        if (packet)
            this.line?.datagram(packet);
    }
    /** Sends what documents are asked, if the server has not fallen silent and is not left. */
    sendQuestions() {
        const line = this.line;
        if (!line || this.search || this.leaving)
            return;
        for (const question of this.state.questions.next())
            line.send(question);
    }
    /** Ends the session. */
    leave() {
        if (this.over || this.leaving)
            return;
        this.leaving = true;
        const line = this.line;
        if (!line)
            return this.finish(undefined, "the client left");
        line.send({ type: "bye" });
        this.env.after(GOODBYE, () => this.finish(undefined, "the client left"));
    }
    finish(code, message) {
        if (this.over)
            return;
        this.endLink();
        this.over = true;
        this.search?.stop();
        this.warm?.stop();
        this.callOff();
        this.giveUp?.();
        this.tell({ type: "closed", code, message });
    }
    /** Goes on: over a line that is open already, or with a search. Pauses after failures. */
    proceed(ready) {
        if (this.over)
            return;
        this.callOff();
        this.giveUp ??= this.env.after(Math.max(0, this.since + this.timing.giveUp - this.env.now()), () => {
            const why = this.lastRefusal ?? this.search?.lastError ?? "no server answered";
            this.finish(undefined, `no session for ${this.timing.giveUp} ms: ${why}`);
        });
        const go = () => (ready ? this.enter(ready) : this.look());
        if (this.failures === 0)
            return go();
        this.search?.stop();
        this.search = undefined;
        if (ready)
            ready.handler = { ...idle, closed: () => (ready = undefined) };
        const trying = this.env.now() - this.since;
        this.callOff = this.env.after(backOff(this.failures - 1, trying, this.env.random()), go);
    }
    look() {
        if (this.search || this.over)
            return;
        this.search = new Search(this.env, this.timing, this.directory, this.addresses, this.rounds++, (line) => this.reached(line));
    }
    reached(line) {
        this.search = undefined;
        if (!this.link)
            return this.enter(line);
        const { address } = this.link.line;
        this.endLink();
        if (this.moving)
            this.failures = 0;
        else
            this.silent = address;
        this.disconnected(this.moving ? "the match is served elsewhere" : "the server fell silent");
        this.proceed(line);
    }
    /** Shows the credential over a line that is open. */
    enter(line) {
        this.callOff();
        this.search?.stop();
        this.search = undefined;
        line.handler = this;
        const protocol = this.directory.speaks;
        this.link = {
            line,
            protocol,
            begun: this.env.now(),
            newestBefore: this.state.newest,
            watch: undefined,
            rewoundTo: undefined,
            callOff: this.env.after(this.timing.welcome, () => this.lost("no welcome came")),
        };
        const arrive = {
            ...this.hello(protocol),
            game: this.wishes.game,
            stood: this.state.stood(),
            heard: this.state.heard(),
            redirects: Math.min(this.redirects, 255),
        };
        const { lobby } = this.wishes;
        // Once it is in, it names the match.
        if (!lobby || this.match !== undefined)
            return line.send({ type: "arrive", ...arrive });
        if (protocol < PROTOCOL_6) {
            return this.refused("protocol", "the node cannot look for a match by its properties");
        }
        const { properties = {}, create = false } = lobby;
        line.send({ type: "seek", ...arrive, properties, create });
    }
    hello(protocol) {
        const { role } = this.wishes;
        return { protocol, role, credential: this.credential, match: this.match };
    }
    welcomed(link, welcome) {
        const now = this.env.now();
        const { line } = link;
        const resumed = this.state.welcome !== undefined;
        const outage = now - this.heardAt;
        const news = this.state.takeUp(welcome, link.rewoundTo, this.moving);
        this.state.questions.opened(link.protocol);
        link.callOff();
        link.watch = new Watch(this.env, () => this.patience(line), () => this.fellSilent());
        link.callOff = this.env.after(STEADY, () => this.good());
        this.giveUp?.();
        this.giveUp = undefined;
        this.warm?.stop();
        this.warm = undefined;
        [this.moving, this.redirects, this.silent, this.heardAt] = [false, 0, undefined, now];
        [this.addresses.told, this.rounds, this.match] = [false, 0, welcome.match];
        if (this.wishes.role === "player") {
            this.credential = { type: "resume", token: welcome.resumeToken };
        }
        const carrier = line.kind;
        this.tell(resumed
            ? { type: "resumed", welcome, carrier, outage }
            : { type: "welcome", welcome, carrier });
        if (this.servedBy !== undefined && this.servedBy !== line.address) {
            this.state.counts.moves += 1;
            this.tell({ type: "moved", from: this.servedBy, to: line.address, gap: outage });
        }
        this.servedBy = line.address;
        news.forEach(this.tell);
        for (const command of this.state.untaken())
            line.send({ type: "command", ...command });
        this.sendQuestions();
        this.sendPacket();
    }
    patience(line) {
        const { clock } = this.state;
        const least = line.kind === "websocket" ? this.timing.silenceWebSocket : this.timing.silence;
        return Math.max(least, 4 * clock.period) + clock.rtt;
    }
    fellSilent() {
        this.sendPacket();
        this.look();
    }
    good() {
        [this.since, this.failures, this.lastRefusal] = [this.env.now(), 0, undefined];
    }
    heard() {
        this.heardAt = this.env.now();
        this.link?.watch?.heard();
        if (this.moving || !this.search)
            return;
        this.search.stop();
        this.search = undefined;
        this.sendQuestions();
    }
    /** Closes the connection, and notes whether it was good. */
    endLink(refused = false) {
        const link = this.link;
        if (!link)
            return;
        this.link = undefined;
        link.callOff();
        link.watch?.stop();
        link.line.close();
        this.state.questions.broke();
        const steady = this.env.now() - link.begun >= STEADY;
        const came = !refused && this.state.newest > link.newestBefore;
        if (link.watch && (steady || came))
            this.good();
        else
            this.failures += 1;
    }
    disconnected(reason) {
        if (!this.leaving)
            this.tell({ type: "disconnected", reason });
    }
    lost(reason) {
        const address = this.link?.line.address;
        this.endLink();
        if (this.leaving)
            return this.finish(undefined, "the client left");
        this.moving = false;
        this.silent = address;
        if (address !== undefined)
            this.addresses.avoid(address);
        this.disconnected(reason);
        this.proceed();
    }
    refused(code, message) {
        const address = this.link?.line.address ?? "";
        this.endLink(true);
        if (this.leaving)
            return this.finish(undefined, "the client left");
        // For a match that is looked for the node has asked the others.
        const seeks = this.wishes.lobby !== undefined && this.match === undefined;
        const another = this.addresses.knowsAnother(address) && !seeks;
        const elsewhere = another && this.failures < ASKED_ELSEWHERE;
        const known = elsewhere || this.state.welcome !== undefined;
        // Nodes of one cluster may be of different versions while they are upgraded.
        const less = code === "protocol" && this.directory.speakLess();
        const patient = less || isTemporary(code) || (code === "no-match" && known);
        const tried = this.env.now() - this.since;
        if (!patient || tried >= this.timing.giveUp)
            return this.finish(code, message);
        [this.moving, this.lastRefusal] = [false, message];
        this.disconnected(message);
        // Also behind a good connection: who says "not now" means it.
        this.failures = Math.max(this.failures, 1);
        this.proceed();
    }
    /** The match is at `address`, says a server. */
    lead(address) {
        if (!isUsable(address))
            return "nowhere";
        this.rounds = 0;
        this.addresses.prefer(address);
        // Whoever sends the client back to a server that is silent does not know yet that it is.
        if (this.silent === address)
            return "back";
        this.addresses.told = true;
        this.redirects += 1;
        this.state.counts.redirects += 1;
        return "on";
    }
    /** A server to which the session was shown sends the client on. */
    redirected(address) {
        const way = this.lead(address);
        if (way === "nowhere")
            return this.lost("redirected to no usable address");
        if (way === "back") {
            return this.refused("unavailable", "sent back to the server that fell silent");
        }
        this.endLink();
        if (this.redirects > MAX_REDIRECTS) {
            this.lastRefusal = `${MAX_REDIRECTS} servers in a row sent the client on`;
            [this.redirects, this.moving, this.failures] = [0, false, Math.max(this.failures, 1)];
            this.disconnected(this.lastRefusal);
        }
        else {
            // Nothing has failed: the next server is asked at once.
            this.failures = 0;
            this.disconnected("the match is served elsewhere");
        }
        this.proceed();
    }
    /** The old server has said where the match goes on, and is gone. */
    left() {
        this.endLink();
        this.failures = 0;
        this.disconnected("the match is served elsewhere");
        this.proceed();
    }
    /** The match's standby is at `address`: keeps a connection to it. */
    keepWarm(line, address) {
        const usable = address !== undefined && isUsable(address) && address !== line.address;
        const wanted = usable ? address : undefined;
        if (this.warm?.address === wanted)
            return;
        this.warm?.stop();
        this.warm = undefined;
        if (wanted === undefined)
            return;
        this.warm = new Warm(this.env, this.directory, wanted, this.hello(PROTOCOL), (warm, line) => this.goesOn(warm, line));
    }
    goesOn(warm, line) {
        if (this.over || this.warm !== warm)
            return line.close();
        this.warm = undefined;
        this.search?.stop();
        this.search = undefined;
        this.endLink();
        [this.moving, this.failures, this.since] = [true, 0, this.env.now()];
        this.disconnected("the match goes on at its standby");
        this.enter(line);
    }
    opened() {
        // Lines are open when they come here.
    }
    message(line, message) {
        const link = this.link;
        if (!link || link.line !== line || this.over)
            return;
        if (message.type === "refused") {
            if (link.watch && this.moving)
                return this.left();
            return this.refused(message.code, message.message);
        }
        if (!link.watch)
            return this.beforeWelcome(link, message);
        this.heard();
        switch (message.type) {
            case "redirect":
                if (!this.moving && this.lead(message.address) === "on") {
                    this.moving = true;
                    this.search?.stop();
                    this.search = undefined;
                    this.look();
                }
                return;
            case "nodes":
                return this.addresses.learn(message.addresses, line.address, this.env.random());
            case "standby":
                return this.keepWarm(line, message.address);
            case "documents":
                this.state.questions.answered(message);
                return this.sendQuestions();
            default:
                this.state.told(message).forEach(this.tell);
        }
    }
    beforeWelcome(link, message) {
        if (message.type === "welcome")
            this.welcomed(link, message);
        else if (message.type === "rewound")
            link.rewoundTo = message.to;
        else if (message.type === "redirect")
            this.redirected(message.address);
        else if (message.type !== "nodes" && message.type !== "here") {
            this.lost(`${message.type} where a welcome was expected`);
        }
    }
    datagram(line, bytes) {
        if (!this.link?.watch || this.link.line !== line || this.over)
            return;
        this.heard();
        const now = this.env.now();
        const news = this.state.received(bytes, now);
        // A game that sends inputs acknowledges with them.
        if (now >= this.state.sentAt + this.state.clock.period * 1.5)
            this.sendPacket();
        news.forEach(this.tell);
    }
    closed(line, { refusal, reason }) {
        const link = this.link;
        if (!link || link.line !== line || this.over)
            return;
        const code = refusal === undefined ? undefined : REFUSALS[refusal];
        if (link.watch && this.moving)
            this.left();
        else if (code !== undefined)
            this.refused(code, reason);
        else
            this.lost(reason);
    }
}
const idle = {
    opened: () => undefined,
    message: () => undefined,
    datagram: () => undefined,
    closed: () => undefined,
};
