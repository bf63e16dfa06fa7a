/**
 * Keeps a client's session: dials, shows the credential, serves the connection, and starts over
 * when the server is gone (docs/PROTOCOL.md, section 4). While the old connection is merely silent,
 * a new one is dialled beside it; whichever speaks first wins.
 */
import type { Closed } from "../carrier.js";
import { isUsable, type Directory } from "../edge.js";
import type { SessionEvent } from "../events.js";
import {
  isTemporary,
  MAX_REDIRECTS,
  PROTOCOL,
  PROTOCOL_6,
  REFUSALS,
  type Credential,
  type Hello,
  type Refusal,
  type Role,
  type ServerMessage,
  type Welcome,
} from "../messages.js";
import { backOff, Search, type Addresses, type Timing } from "./dialer.js";
import type { Environment, Line, LineHandler } from "./line.js";
import type { SessionState } from "./state.js";
import { Warm } from "./warm.js";
import { Watch } from "./watch.js";

/** A connection that carried the session for so long was good. */
const STEADY = 2000;
/** So often a client that was never in its match asks other addresses for it. */
const ASKED_ELSEWHERE = 6;
/** How long a leaving client waits for the server to close. */
const GOODBYE = 500;

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

/** The connection that carries the session, or is about to. */
interface Link {
  readonly line: Line;
  /** The version of the protocol that it speaks. */
  readonly protocol: number;
  readonly begun: number;
  readonly newestBefore: number;
  /** Set once the welcome came. */
  watch: Watch | undefined;
  rewoundTo: number | undefined;
  callOff: () => void;
}

export class Driver implements LineHandler {
  private link: Link | undefined;
  private search: Search | undefined;
  private warm: Warm | undefined;
  private callOff: () => void = () => undefined;
  private giveUp: (() => void) | undefined;
  private match: bigint | undefined;
  /** Redirects that were followed since the last welcome. */
  private redirects = 0;
  /** The server that is left has said where the match goes on. */
  private moving = false;
  private servedBy: string | undefined;
  /** The server that fell silent, until one takes the session on. */
  private silent: string | undefined;
  private heardAt: number;
  /** Since when no connection was good, and how many in a row were not. */
  private since: number;
  private failures = 0;
  private rounds = 0;
  private lastRefusal: string | undefined;
  private over = false;
  private leaving = false;

  constructor(
    private readonly env: Environment,
    private readonly timing: Timing,
    private readonly directory: Directory,
    private readonly addresses: Addresses,
    private readonly wishes: Wishes,
    private credential: Credential,
    private readonly state: SessionState,
    private readonly tell: (event: SessionEvent) => void,
  ) {
    this.match = wishes.match;
    this.since = this.heardAt = env.now();
    this.proceed();
  }

  /** The line that carries the session. */
  get line(): Line | undefined {
    return this.link?.watch && this.link.line;
  }

  sendPacket(): void {
    const packet = this.state.packet(this.env.now());
    if (packet) this.line?.datagram(packet);
  }

  /** Sends what documents are asked, if the server has not fallen silent and is not left. */
  sendQuestions(): void {
    const line = this.line;
    if (!line || this.search || this.leaving) return;
    for (const question of this.state.questions.next()) line.send(question);
  }

  /** Ends the session. */
  leave(): void {
    if (this.over || this.leaving) return;
    this.leaving = true;
    const line = this.line;
    if (!line) return this.finish(undefined, "the client left");
    line.send({ type: "bye" });
    this.env.after(GOODBYE, () => this.finish(undefined, "the client left"));
  }

  private finish(code: Refusal | undefined, message: string): void {
    if (this.over) return;
    this.endLink();
    this.over = true;
    this.search?.stop();
    this.warm?.stop();
    this.callOff();
    this.giveUp?.();
    this.tell({ type: "closed", code, message });
  }

  /** Goes on: over a line that is open already, or with a search. Pauses after failures. */
  private proceed(ready?: Line): void {
    if (this.over) return;
    this.callOff();
    this.giveUp ??= this.env.after(
      Math.max(0, this.since + this.timing.giveUp - this.env.now()),
      () => {
        const why = this.lastRefusal ?? this.search?.lastError ?? "no server answered";
        this.finish(undefined, `no session for ${this.timing.giveUp} ms: ${why}`);
      },
    );
    const go = (): void => (ready ? this.enter(ready) : this.look());
    if (this.failures === 0) return go();
    this.search?.stop();
    this.search = undefined;
    if (ready) ready.handler = { ...idle, closed: () => (ready = undefined) };
    const trying = this.env.now() - this.since;
    this.callOff = this.env.after(backOff(this.failures - 1, trying, this.env.random()), go);
  }

  private look(): void {
    if (this.search || this.over) return;
    this.search = new Search(
      this.env,
      this.timing,
      this.directory,
      this.addresses,
      this.rounds++,
      (line) => this.reached(line),
    );
  }

  private reached(line: Line): void {
    this.search = undefined;
    if (!this.link) return this.enter(line);
    const { address } = this.link.line;
    this.endLink();
    if (this.moving) this.failures = 0;
    else this.silent = address;
    this.disconnected(this.moving ? "the match is served elsewhere" : "the server fell silent");
    this.proceed(line);
  }

  /** Shows the credential over a line that is open. */
  private enter(line: Line): void {
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
    if (!lobby || this.match !== undefined) return line.send({ type: "arrive", ...arrive });
    if (protocol < PROTOCOL_6) {
      return this.refused("protocol", "the node cannot look for a match by its properties");
    }
    const { properties = {}, create = false } = lobby;
    line.send({ type: "seek", ...arrive, properties, create });
  }

  private hello(protocol: number): Hello {
    const { role } = this.wishes;
    return { protocol, role, credential: this.credential, match: this.match };
  }

  private welcomed(link: Link, welcome: Welcome): void {
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
    this.tell(
      resumed
        ? { type: "resumed", welcome, carrier, outage }
        : { type: "welcome", welcome, carrier },
    );
    if (this.servedBy !== undefined && this.servedBy !== line.address) {
      this.state.counts.moves += 1;
      this.tell({ type: "moved", from: this.servedBy, to: line.address, gap: outage });
    }
    this.servedBy = line.address;
    news.forEach(this.tell);
    for (const command of this.state.untaken()) line.send({ type: "command", ...command });
    this.sendQuestions();
    this.sendPacket();
  }

  private patience(line: Line): number {
    const { clock } = this.state;
    const least = line.kind === "websocket" ? this.timing.silenceWebSocket : this.timing.silence;
    return Math.max(least, 4 * clock.period) + clock.rtt;
  }

  private fellSilent(): void {
    this.sendPacket();
    this.look();
  }

  private good(): void {
    [this.since, this.failures, this.lastRefusal] = [this.env.now(), 0, undefined];
  }

  private heard(): void {
    this.heardAt = this.env.now();
    this.link?.watch?.heard();
    if (this.moving || !this.search) return;
    this.search.stop();
    this.search = undefined;
    this.sendQuestions();
  }

  /** Closes the connection, and notes whether it was good. */
  private endLink(refused = false): void {
    const link = this.link;
    if (!link) return;
    this.link = undefined;
    link.callOff();
    link.watch?.stop();
    link.line.close();
    this.state.questions.broke();
    const steady = this.env.now() - link.begun >= STEADY;
    const came = !refused && this.state.newest > link.newestBefore;
    if (link.watch && (steady || came)) this.good();
    else this.failures += 1;
  }

  private disconnected(reason: string): void {
    if (!this.leaving) this.tell({ type: "disconnected", reason });
  }

  private lost(reason: string): void {
    const address = this.link?.line.address;
    this.endLink();
    if (this.leaving) return this.finish(undefined, "the client left");
    this.moving = false;
    this.silent = address;
    if (address !== undefined) this.addresses.avoid(address);
    this.disconnected(reason);
    this.proceed();
  }

  private refused(code: Refusal, message: string): void {
    const address = this.link?.line.address ?? "";
    this.endLink(true);
    if (this.leaving) return this.finish(undefined, "the client left");
    // For a match that is looked for the node has asked the others.
    const seeks = this.wishes.lobby !== undefined && this.match === undefined;
    const another = this.addresses.knowsAnother(address) && !seeks;
    const elsewhere = another && this.failures < ASKED_ELSEWHERE;
    const known = elsewhere || this.state.welcome !== undefined;
    // Nodes of one cluster may be of different versions while they are upgraded.
    const less = code === "protocol" && this.directory.speakLess();
    const patient = less || isTemporary(code) || (code === "no-match" && known);
    const tried = this.env.now() - this.since;
    if (!patient || tried >= this.timing.giveUp) return this.finish(code, message);
    [this.moving, this.lastRefusal] = [false, message];
    this.disconnected(message);
    // Also behind a good connection: who says "not now" means it.
    this.failures = Math.max(this.failures, 1);
    this.proceed();
  }

  /** The match is at `address`, says a server. */
  private lead(address: string): "on" | "back" | "nowhere" {
    if (!isUsable(address)) return "nowhere";
    this.rounds = 0;
    this.addresses.prefer(address);
    // Whoever sends the client back to a server that is silent does not know yet that it is.
    if (this.silent === address) return "back";
    this.addresses.told = true;
    this.redirects += 1;
    this.state.counts.redirects += 1;
    return "on";
  }

  /** A server to which the session was shown sends the client on. */
  private redirected(address: string): void {
    const way = this.lead(address);
    if (way === "nowhere") return this.lost("redirected to no usable address");
    if (way === "back") {
      return this.refused("unavailable", "sent back to the server that fell silent");
    }
    this.endLink();
    if (this.redirects > MAX_REDIRECTS) {
      this.lastRefusal = `${MAX_REDIRECTS} servers in a row sent the client on`;
      [this.redirects, this.moving, this.failures] = [0, false, Math.max(this.failures, 1)];
      this.disconnected(this.lastRefusal);
    } else {
      // Nothing has failed: the next server is asked at once.
      this.failures = 0;
      this.disconnected("the match is served elsewhere");
    }
    this.proceed();
  }

  /** The old server has said where the match goes on, and is gone. */
  private left(): void {
    this.endLink();
    this.failures = 0;
    this.disconnected("the match is served elsewhere");
    this.proceed();
  }

  /** The match's standby is at `address`: keeps a connection to it. */
  private keepWarm(line: Line, address: string | undefined): void {
    const usable = address !== undefined && isUsable(address) && address !== line.address;
    const wanted = usable ? address : undefined;
    if (this.warm?.address === wanted) return;
    this.warm?.stop();
    this.warm = undefined;
    if (wanted === undefined) return;
    this.warm = new Warm(this.env, this.directory, wanted, this.hello(PROTOCOL), (warm, line) =>
      this.goesOn(warm, line),
    );
  }

  private goesOn(warm: Warm, line: Line): void {
    if (this.over || this.warm !== warm) return line.close();
    this.warm = undefined;
    this.search?.stop();
    this.search = undefined;
    this.endLink();
    [this.moving, this.failures, this.since] = [true, 0, this.env.now()];
    this.disconnected("the match goes on at its standby");
    this.enter(line);
  }

  opened(): void {
    // Lines are open when they come here.
  }

  message(line: Line, message: ServerMessage): void {
    const link = this.link;
    if (!link || link.line !== line || this.over) return;
    if (message.type === "refused") {
      if (link.watch && this.moving) return this.left();
      return this.refused(message.code, message.message);
    }
    if (!link.watch) return this.beforeWelcome(link, message);
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

  private beforeWelcome(link: Link, message: ServerMessage): void {
    if (message.type === "welcome") this.welcomed(link, message);
    else if (message.type === "rewound") link.rewoundTo = message.to;
    else if (message.type === "redirect") this.redirected(message.address);
    else if (message.type !== "nodes" && message.type !== "here") {
      this.lost(`${message.type} where a welcome was expected`);
    }
  }

  datagram(line: Line, bytes: Uint8Array): void {
    if (!this.link?.watch || this.link.line !== line || this.over) return;
    this.heard();
    const now = this.env.now();
    const news = this.state.received(bytes, now);
    // A game that sends inputs acknowledges with them.
    if (now >= this.state.sentAt + this.state.clock.period * 1.5) this.sendPacket();
    news.forEach(this.tell);
  }

  closed(line: Line, { refusal, reason }: Closed): void {
    const link = this.link;
    if (!link || link.line !== line || this.over) return;
    const code = refusal === undefined ? undefined : REFUSALS[refusal];
    if (link.watch && this.moving) this.left();
    else if (code !== undefined) this.refused(code, reason);
    else this.lost(reason);
  }
}

const idle: LineHandler = {
  opened: () => undefined,
  message: () => undefined,
  datagram: () => undefined,
  closed: () => undefined,
};
