/** A player's or spectator's session with a match, which outlives connections and nodes. */
import type { CarrierKind } from "./carrier.js";
import { openEither } from "./carrier/either.js";
import { webSocketCarrier, type WebSocketConstructor } from "./carrier/websocket.js";
import { webTransportCarrier, type WebTransportConstructor } from "./carrier/webtransport.js";
import type { ClockSync } from "./clock.js";
import { Documents } from "./documents.js";
import { addressOf, Directory, type Edge } from "./edge.js";
import type { EventOf, SessionEvent } from "./events.js";
import type { Scene } from "./interpolate.js";
import type { Credential, Role, Welcome } from "./messages.js";
import { Addresses, spread, TIMING, type Timing } from "./session/dialer.js";
import { Driver, type Lobby } from "./session/driver.js";
import type { Environment } from "./session/line.js";
import { SessionState, type SentInput } from "./session/state.js";

/** What a session is begun with. */
export interface SessionOptions {
  /** Nodes to ask: their origins, such as `location.origin`. */
  readonly edge: string | readonly string[];
  /** A ticket. */
  readonly ticket?: string;
  /** Or the resume token of an earlier session. */
  readonly resume?: string;
  /** To play (the default) or to watch. */
  readonly role?: Role;
  /** 16 hexadecimal digits, or the number; without it the ticket decides. */
  readonly match?: string | bigint;
  /** Only a match of this game. */
  readonly game?: string;
  /** Instead of `match`: one of `game` with a free seat, on whichever node. */
  readonly lobby?: Lobby;
  /** Carriers to use, all by default; WebTransport is tried first. */
  readonly carriers?: readonly CarrierKind[];
  readonly timing?: Partial<Timing>;
  /** Instead of the global one: Node 20 has none. */
  readonly WebSocket?: WebSocketConstructor;
  readonly WebTransport?: WebTransportConstructor;
  /** A time and a network for tests. */
  readonly environment?: Environment;
}

/** How a session goes. Times are milliseconds. */
export interface Stats {
  /** `undefined` while there is no connection. */
  readonly carrier: CarrierKind | undefined;
  /** The node that has the session, `host:port`. */
  readonly node: string | undefined;
  /** The newest tick of the server that was seen. */
  readonly tick: number;
  readonly rtt: number;
  readonly jitter: number;
  /** The part of snapshots that did not come of late, 0 to 1. */
  readonly loss: number;
  /** The server's time (ticks in milliseconds) minus this client's clock. */
  readonly clockOffset: number;
  readonly redirects: number;
  readonly moves: number;
  /** Events that came again and were not told twice. */
  readonly repeatedEvents: number;
  /** Times that events may have been missed. */
  readonly missedEvents: number;
}

type Handler<T extends SessionEvent["type"]> = (event: EventOf<T>) => void;

function matchId(match: string | bigint | undefined): bigint | undefined {
  return typeof match === "string" ? BigInt(`0x${match}`) : match;
}

/** What a browser, or Node, has. */
function surroundings(options: SessionOptions): Environment {
  const outside = globalThis as {
    WebSocket?: WebSocketConstructor;
    WebTransport?: WebTransportConstructor;
  };
  const wanted = options.carriers ?? ["webtransport", "websocket"];
  const transport = options.WebTransport ?? outside.WebTransport;
  const socket = options.WebSocket ?? outside.WebSocket;
  const ways = {
    webtransport:
      transport && wanted.includes("webtransport") ? webTransportCarrier(transport) : undefined,
    websocket: socket && wanted.includes("websocket") ? webSocketCarrier(socket) : undefined,
  };
  if (ways.webtransport === undefined && ways.websocket === undefined) {
    throw new Error(
      `no ${wanted.join(" or ")} here to connect by: pass \`WebSocket\` in the options (Node before 22)`,
    );
  }
  const after = (ms: number, run: () => void): (() => void) => {
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
      if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
      return (await answer.json()) as Edge;
    },
  };
}

/** A session. Made by {@link connect}. */
export class Session {
  private readonly env: Environment;
  private readonly state: SessionState;
  private readonly handlers = new Map<string, Set<(event: never) => void>>();
  private readonly directory = new Directory();
  private driver: Driver | undefined;
  private stopped = false;

  constructor(private readonly options: SessionOptions) {
    this.env = options.environment ?? surroundings(options);
    this.state = new SessionState(options.role ?? "player");
    void this.begin(this.env.now(), 0);
  }

  private get origins(): string[] {
    const { edge } = this.options;
    return (typeof edge === "string" ? [edge] : [...edge]).map((url) => new URL(url).origin);
  }

  /** Learns by which carriers the nodes are reached, then begins to dial. */
  private async begin(since: number, round: number): Promise<void> {
    const timing = { ...TIMING, ...this.options.timing };
    const { origins } = this;
    const origin = origins[round % origins.length]!;
    let problem: unknown;
    try {
      const edge = await this.env.edge(`${origin}/edge.json`);
      this.directory.learn(edge);
      const url = edge.webtransport?.url ?? edge.websocket?.url;
      if (this.stopped) return;
      if (url !== undefined) return this.dial(timing, [addressOf(url), ...origins.map(addressOf)]);
      problem = "the node offers no carrier for browsers";
    } catch (error) {
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
      if (!this.stopped) void this.begin(since, round + 1);
    });
  }

  private dial(timing: Timing, addresses: string[]): void {
    const { role = "player", match, game, lobby, ticket = "", resume } = this.options;
    const credential: Credential =
      resume === undefined ? { type: "ticket", token: ticket } : { type: "resume", token: resume };
    this.driver = new Driver(
      this.env,
      timing,
      this.directory,
      new Addresses(addresses),
      { role, match: matchId(match), game, lobby },
      credential,
      this.state,
      (event) => this.tell(event),
    );
  }

  private tell(event: SessionEvent): void {
    if (event.type === "closed") {
      this.stopped = true;
      this.state.questions.close(event.message);
    }
    for (const handler of this.handlers.get(event.type) ?? []) handler(event as never);
  }

  /** Calls `handler` for each event of a type. Returns how to end that. */
  on<T extends SessionEvent["type"]>(type: T, handler: Handler<T>): () => void {
    const handlers = this.handlers.get(type) ?? new Set();
    this.handlers.set(type, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  /** The newest welcome; `undefined` before the first. */
  get welcome(): Welcome | undefined {
    return this.state.welcome;
  }

  /** Whether a connection carries the session at the moment. */
  get connected(): boolean {
    return this.driver?.line !== undefined;
  }

  /** The server's time, as far as it is known. Pass it {@link Session.now}. */
  get clock(): ClockSync {
    return this.state.clock;
  }

  /** The clock that the session goes by, in milliseconds. */
  now(): number {
    return this.env.now();
  }

  /**
   * Sends what the player wants in a tick: call it once a tick. `undefined` while there is no
   * connection, and for spectators.
   */
  input(payload: Uint8Array): SentInput | undefined {
    if (!this.connected || this.state.role === "spectator") return undefined;
    const sent = this.state.input(payload, this.env.now());
    this.driver?.sendPacket();
    return sent;
  }

  /**
   * Sends a command, which is applied once whatever happens to connections and nodes. Returns its
   * number: `commandDone` names it. Throws without a session, and when 256 wait.
   */
  command(payload: Uint8Array): number {
    const command = this.state.command(payload);
    this.driver?.line?.send({ type: "command", ...command });
    return command.seq;
  }

  /**
   * The documents of a kind, which outlive matches. `T`: what a document has. May be asked before
   * there is a connection; on one below version 6 of the protocol everything is refused.
   */
  documents<T = unknown>(kind: string): Documents<T> {
    return new Documents((asked) => this.ask(kind, asked));
  }

  private ask(kind: string, asked: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.state.questions.ask(kind, JSON.stringify(asked), { resolve, reject });
      this.driver?.sendQuestions();
    });
  }

  /** The world to draw now, between two snapshots. `undefined` before the first. */
  scene(): Scene | undefined {
    return this.state.interpolator?.sample(this.clock.renderTick(this.env.now()));
  }

  get stats(): Stats {
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
  leave(): void {
    if (this.driver) return this.driver.leave();
    this.tell({ type: "closed", code: undefined, message: "the client left" });
  }
}

/**
 * Begins a session. It dials by itself, and keeps the session until `closed`. Throws where there is
 * neither WebTransport nor WebSocket.
 */
export function connect(options: SessionOptions): Session {
  return new Session(options);
}
