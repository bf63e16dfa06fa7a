/**
 * Reaches a node: overlapping attempts over all known addresses, the first that is open wins.
 * Rounds come at growing intervals, each client's at moments of its own.
 */
import { isUsable, type Directory } from "../edge.js";
import { Line, type Environment } from "./line.js";

/** When a client becomes impatient, in milliseconds. */
export interface Timing {
  /** A server that sent nothing for so long, by WebTransport, is looked for elsewhere. */
  readonly silence: number;
  /** The same by WebSocket, where one lost packet holds up all that follow. */
  readonly silenceWebSocket: number;
  /** From one address to the next, attempts overlapping. */
  readonly redial: number;
  /** From one round over all addresses to the next; then twice, then four times as long. */
  readonly redialRound: number;
  /** An attempt of the first round; then twice, then four times as long. */
  readonly attempt: number;
  /** From the handshake to the welcome. */
  readonly welcome: number;
  /** Without a session for so long, the client gives up. */
  readonly giveUp: number;
}

export const TIMING: Timing = {
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

const doubled = (ms: number, times: number): number => ms * 2 ** Math.min(times, 2);

/** A quarter more or less. */
export const spread = (ms: number, random: number): number => ms * (0.75 + random / 2);

/** How long to wait after a server answered and did not serve. */
export function backOff(times: number, trying: number, random: number): number {
  return spread(Math.min(Math.max(doubled(TRY_AGAIN, times), trying / 6), LONGEST_PAUSE), random);
}

/** Knows where nodes may be; the next attempt goes to the first. */
export class Addresses {
  private list: string[];
  private readonly given: readonly string[];
  /** A server has said that the match is at the first. */
  told = false;

  constructor(given: readonly string[]) {
    this.given = [...new Set(given)].slice(0, MAX_ADDRESSES);
    this.list = [...this.given];
  }

  get count(): number {
    return this.list.length;
  }

  /** The next to try, which then becomes the last. */
  take(): string | undefined {
    const address = this.list.shift();
    if (address !== undefined) this.list.push(address);
    return address;
  }

  knowsAnother(address: string): boolean {
    return this.list.some((known) => known !== address);
  }

  prefer(address: string): void {
    this.list = [address, ...this.list.filter((known) => known !== address)];
    if (this.list.length > MAX_ADDRESSES) {
      const spare = this.list.findLastIndex((known) => !this.given.includes(known));
      this.list.splice(Math.max(spare, 0), 1);
    }
  }

  avoid(address: string): void {
    const rest = this.list.filter((known) => known !== address);
    if (rest.length < this.list.length) this.list = [...rest, address];
  }

  /** The cluster's nodes, says the one at `keep`: others that were learnt are forgotten. */
  learn(named: readonly string[], keep: string, random: number): void {
    const usable = named.slice(0, MAX_ADDRESSES).filter(isUsable);
    const turn = Math.floor(random * usable.length);
    const turned = [...usable.slice(turn), ...usable.slice(0, turn)];
    this.list = this.list.filter(
      (known) => known === keep || this.given.includes(known) || usable.includes(known),
    );
    this.list = [...new Set([...this.list, ...turned])].slice(0, MAX_ADDRESSES);
  }
}

/** A search for a node that goes on until one is reached or it is stopped. */
export class Search {
  private readonly attempts = new Set<Line>();
  private callOff: () => void;
  private started = 0;
  private over = false;
  /** What the last attempt that failed said. */
  lastError: string | undefined;

  constructor(
    private readonly env: Environment,
    private readonly timing: Timing,
    private readonly directory: Directory,
    private readonly addresses: Addresses,
    /** How many rounds were made since a server last took the session on. */
    private rounds: number,
    private readonly reached: (line: Line) => void,
  ) {
    this.callOff = env.after(0, () => this.step());
  }

  stop(): void {
    this.over = true;
    this.callOff();
    for (const line of this.attempts) line.close();
    this.attempts.clear();
  }

  private step(): void {
    const { env, timing, addresses } = this;
    if (this.attempts.size < MAX_ATTEMPTS) this.attempt();
    this.started += 1;
    const roundOver = this.started % Math.max(1, addresses.count) === 0;
    let pause = timing.redial;
    if (roundOver) pause = spread(doubled(timing.redialRound, this.rounds), env.random());
    else if (addresses.told && this.started === 1) pause *= TOLD;
    if (roundOver) this.rounds += 1;
    this.callOff = env.after(pause, () => this.step());
  }

  private attempt(): void {
    const address = this.addresses.take();
    if (address === undefined) return;
    // Certificates may have been replaced since they were asked for.
    if (this.rounds > 0) this.refresh(address);
    const failed = (line: Line, reason: string): void => {
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

  private refresh(address: string): void {
    this.env.edge(this.directory.page(address)).then(
      (edge) => this.over || this.directory.learn(edge),
      () => undefined,
    );
  }
}
