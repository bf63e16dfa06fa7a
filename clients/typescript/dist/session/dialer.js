/**
 * Reaches a node: overlapping attempts over all known addresses, the first that is open wins.
 * Rounds come at growing intervals, each client's at moments of its own.
 */
import { isUsable } from "../edge.js";
import { Line } from "./line.js";
export const TIMING = {
    silence: 250,
    silenceWebSocket: 1000,
    redial: 50,
    redialRound: 500,
    attempt: 2500,
    welcome: 8000,
    giveUp: 60_000,
};
const TRY_AGAIN = 50;
const LONGEST_PAUSE = 4000;
/** A client that was told where its match is waits so many times longer before it asks others. */
const TOLD = 5;
const MAX_ATTEMPTS = 8;
const MAX_ADDRESSES = 32;
const doubled = (ms, times) => ms * 2 ** Math.min(times, 2);
/** A quarter more or less. */
export const spread = (ms, random) => ms * (0.75 + random / 2);
/** How long to wait after a server answered and did not serve. */
export function backOff(times, trying, random) {
    return spread(Math.min(Math.max(doubled(TRY_AGAIN, times), trying / 6), LONGEST_PAUSE), random);
}
/** Knows where nodes may be; the next attempt goes to the first. */
export class Addresses {
    list;
    given;
    /** A server has said that the match is at the first. */
    told = false;
    constructor(given) {
        this.given = [...new Set(given)].slice(0, MAX_ADDRESSES);
        this.list = [...this.given];
    }
    get count() {
        return this.list.length;
    }
    /** The next to try, which then becomes the last. */
    take() {
        const address = this.list.shift();
        if (address !== undefined)
            this.list.push(address);
        return address;
    }
    knowsAnother(address) {
        return this.list.some((known) => known !== address);
    }
    prefer(address) {
        this.list = [address, ...this.list.filter((known) => known !== address)];
        if (this.list.length > MAX_ADDRESSES) {
            const spare = this.list.findLastIndex((known) => !this.given.includes(known));
            this.list.splice(Math.max(spare, 0), 1);
        }
    }
    avoid(address) {
        const rest = this.list.filter((known) => known !== address);
        if (rest.length < this.list.length)
            this.list = [...rest, address];
    }
    /** The cluster's nodes, says the one at `keep`: others that were learnt are forgotten. */
    learn(named, keep, random) {
        const usable = named.slice(0, MAX_ADDRESSES).filter(isUsable);
        const turn = Math.floor(random * usable.length);
        const turned = [...usable.slice(turn), ...usable.slice(0, turn)];
        this.list = this.list.filter((known) => known === keep || this.given.includes(known) || usable.includes(known));
        this.list = [...new Set([...this.list, ...turned])].slice(0, MAX_ADDRESSES);
    }
}
/** A search for a node that goes on until one is reached or it is stopped. */
export class Search {
    env;
    timing;
    directory;
    addresses;
    rounds;
    reached;
    attempts = new Set();
    callOff;
    started = 0;
    over = false;
    /** What the last attempt that failed said. */
    lastError;
    constructor(env, timing, directory, addresses, 
    /** How many rounds were made since a server last took the session on. */
    rounds, reached) {
        this.env = env;
        this.timing = timing;
        this.directory = directory;
        this.addresses = addresses;
        this.rounds = rounds;
        this.reached = reached;
        this.callOff = env.after(0, () => this.step());
    }
    stop() {
        this.over = true;
        this.callOff();
        for (const line of this.attempts)
            line.close();
        this.attempts.clear();
    }
    step() {
        const { env, timing, addresses } = this;
        if (this.attempts.size < MAX_ATTEMPTS)
            this.attempt();
        this.started += 1;
        const roundOver = this.started % Math.max(1, addresses.count) === 0;
        let pause = timing.redial;
        if (roundOver)
            pause = spread(doubled(timing.redialRound, this.rounds), env.random());
        else if (addresses.told && this.started === 1)
            pause *= TOLD;
        if (roundOver)
            this.rounds += 1;
        this.callOff = env.after(pause, () => this.step());
    }
    attempt() {
        const address = this.addresses.take();
        if (address === undefined)
            return;
        // Certificates may have been replaced since they were asked for.
        if (this.rounds > 0)
            this.refresh(address);
        const failed = (line, reason) => {
            this.lastError = reason;
            this.attempts.delete(line);
            callOff();
        };
        const line = new Line(this.env, this.directory.target(address), {
            opened: (line) => {
                callOff();
                this.attempts.delete(line);
                this.stop();
                this.reached(line);
            },
            message: () => undefined,
            datagram: () => undefined,
            closed: (line, { reason }) => failed(line, reason),
        });
        this.attempts.add(line);
        const callOff = this.env.after(doubled(this.timing.attempt, this.rounds), () => {
            line.close();
            failed(line, "no answer");
        });
    }
    refresh(address) {
        this.env.edge(this.directory.page(address)).then((edge) => this.over || this.directory.learn(edge), () => undefined);
    }
}
