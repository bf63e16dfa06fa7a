/**
 * The client's side of its session: what was sent, what was learnt, where the match stands. No I/O:
 * the time is an argument, and what is to be sent is returned. `driver.ts` keeps the connection.
 */
import { ClockSync } from "../clock.js";
import type { SessionEvent } from "../events.js";
import { InputSender } from "../inputs.js";
import { Interpolator } from "../interpolate.js";
import {
  MAX_STOOD_BEATS,
  type Beat,
  type Heard,
  type Role,
  type ServerMessage,
  type Stood,
  type Welcome,
} from "../messages.js";
import { ProtocolError } from "../error.js";
import { SnapshotReceiver, type Received } from "../snapshot.js";
import { Questions } from "./questions.js";

/** Most inputs whose target tick is remembered until they are applied. */
const MAX_TARGETS = 128;
/** Most commands that may wait for their result. */
const MAX_COMMANDS = 256;
/** Most bytes of a datagram. */
const BUDGET = 1150;
/** Over so many ticks loss is counted. */
const LOSS_TICKS = 90;

/** An input that was sent. */
export interface SentInput {
  /** Its number: snapshots name it when it was applied. */
  readonly seq: number;
  /** The tick that it is meant for. */
  readonly target: number;
}

/** What a client went through since it was made. */
export interface Counts {
  redirects: number;
  moves: number;
  repeated: number;
  gaps: number;
}

interface Command {
  readonly seq: number;
  readonly payload: Uint8Array;
}

const through = (tick: number): Heard => ({ tick: tick + 1, ordinal: 0 });
const isBefore = (a: Heard, b: Heard): boolean =>
  a.tick < b.tick || (a.tick === b.tick && a.ordinal < b.ordinal);
const later = (a: Heard | undefined, b: Heard): Heard => (a && isBefore(b, a) ? a : b);
const lapsed = (seq: number): SessionEvent => ({
  type: "commandDone",
  seq,
  tick: undefined,
  accepted: undefined,
});

export class SessionState {
  welcome: Welcome | undefined;
  clock = new ClockSync(30);
  interpolator: Interpolator | undefined;
  readonly counts: Counts = { redirects: 0, moves: 0, repeated: 0, gaps: 0 };
  /** The newest tick seen. */
  newest = 0;
  /** What documents are asked. */
  readonly questions: Questions;
  /** When the last packet was made. */
  sentAt = -Infinity;
  private receiver: SnapshotReceiver | undefined;
  private readonly inputs = new InputSender(1);
  private targets: SentInput[] = [];
  private commands: Command[] = [];
  private nextCommand = 1;
  /** Commands below this number were taken by a server: their results may have died with it. */
  private takenUntil = 1;
  private epoch = 0;
  private beats: Beat[] = [];
  private heardUntil: Heard | undefined;
  private arrivals: number[] = [];

  constructor(readonly role: Role) {
    this.questions = new Questions(role === "spectator");
  }

  /** Where the client stands, for a server that it comes back to. */
  stood(): Stood | undefined {
    return this.welcome && { epoch: this.epoch, tick: this.newest, beats: this.beats };
  }

  heard(): Heard | undefined {
    return this.heardUntil;
  }

  /** The part of snapshots that did not come of late, 0 to 1. */
  loss(): number {
    const arrivals = this.arrivals;
    const span = (arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0);
    if (arrivals.length < 3 || span <= 0) return 0;
    const steps = arrivals.slice(1).map((tick, index) => tick - arrivals[index]!);
    const usual = Math.max(1, steps.sort((a, b) => a - b)[Math.floor(steps.length / 4)]!);
    return Math.max(0, 1 - ((arrivals.length - 1) * usual) / span);
  }

  /** Ticks behind `to` have not happened. False if none of them was seen. */
  private rewind(to: number): boolean {
    this.beats = this.beats.filter((beat) => beat.tick <= to);
    const until = through(to);
    if (this.heardUntil && isBefore(until, this.heardUntil)) this.heardUntil = until;
    this.interpolator?.rewind(to);
    const seen = to < this.newest;
    this.newest = Math.min(this.newest, to);
    return seen;
  }

  /**
   * A connection carries the session now. `to`: the newest tick that still holds, if the server
   * said so. `moved`: the match went on without a pause, so inputs on their way are still wanted.
   */
  takeUp(welcome: Welcome, to: number | undefined, moved: boolean): SessionEvent[] {
    const news: SessionEvent[] = [];
    const holds = Math.min(to ?? welcome.tick, welcome.tick);
    if (this.welcome && this.rewind(holds)) {
      news.push({ type: "rewound", epoch: welcome.epoch, to: holds });
    }
    this.epoch = welcome.epoch;
    if (this.welcome?.tickRate !== welcome.tickRate) this.clock = new ClockSync(welcome.tickRate);
    if (!this.interpolator || this.welcome?.match !== welcome.match) {
      this.interpolator = new Interpolator(welcome.schema);
    }
    this.receiver = new SnapshotReceiver(welcome.schema, welcome.epoch);
    if (moved && welcome.resumed) {
      this.inputs.skipTo(welcome.nextInput);
      this.targets = this.targets.filter((sent) => sent.seq >= welcome.nextInput);
    } else {
      // Inputs of before were meant for ticks that are over.
      this.inputs.restart(welcome.nextInput);
      this.targets = [];
    }
    this.heardUntil ??= through(welcome.tick);
    news.push(...this.alignCommands(welcome.nextCommand));
    this.sentAt = -Infinity;
    this.welcome = welcome;
    return news;
  }

  /**
   * The server expects command `next`. Whatever waits behind a gap can never be taken, and neither
   * can what became of it be told.
   */
  private alignCommands(next: number): SessionEvent[] {
    this.takenUntil = next;
    const taken = this.commands.filter(({ seq }) => seq < next);
    const waiting = this.commands.slice(taken.length);
    const inOrder = waiting.filter(({ seq }, index) => seq === next + index);
    this.commands = [...taken, ...inOrder];
    this.nextCommand = next + inOrder.length;
    return waiting.slice(inOrder.length).map(({ seq }) => lapsed(seq));
  }

  /** Commands that the server has not taken, in order. */
  untaken(): readonly Command[] {
    return this.commands.filter(({ seq }) => seq >= this.takenUntil);
  }

  /** Numbers a command, which waits until its result comes. */
  command(payload: Uint8Array): Command {
    if (this.role === "spectator") throw new Error("a spectator sends no commands");
    if (!this.welcome) throw new Error("there is no session yet: wait for the welcome");
    if (this.commands.length >= MAX_COMMANDS) throw new Error("too many commands wait");
    const command = { seq: this.nextCommand, payload: payload.slice() };
    this.nextCommand += 1;
    this.commands.push(command);
    return command;
  }

  /** Numbers an input. */
  input(payload: Uint8Array, now: number): SentInput {
    const view = Math.floor(this.clock.renderTick(now));
    const { seq, target } = this.inputs.push(payload, this.clock.targetTick(now), view);
    this.targets.push({ seq, target });
    if (this.targets.length > MAX_TARGETS) this.targets.shift();
    return { seq, target };
  }

  /** A packet with all inputs that no snapshot has named. */
  packet(now: number): Uint8Array | undefined {
    if (!this.receiver) return undefined;
    this.sentAt = now;
    const clock = Math.floor(now) >>> 0 || 1;
    return this.inputs.packet(this.receiver.acknowledgement(), clock, BUDGET);
  }

  /** Takes a snapshot in; what it gives the game, if it is newer than the one before. */
  received(datagram: Uint8Array, now: number): SessionEvent[] {
    if (!this.receiver) return [];
    let received: Received;
    try {
      received = this.receiver.receive(datagram);
    } catch (error) {
      if (error instanceof ProtocolError) return [];
      throw error;
    }
    const { header, view, complete } = received;
    this.clock.onSnapshot(now, header);
    for (const { seq, tick } of header.applied) {
      const sent = this.targets.find((target) => target.seq === seq);
      if (sent) this.clock.onApplied(sent.target, tick);
      this.targets = this.targets.filter((target) => target.seq > seq);
      this.inputs.applied(seq);
    }
    if (header.nextInput !== undefined) this.inputs.skipTo(header.nextInput);
    if (header.epoch > this.epoch) {
      this.epoch = header.epoch;
      this.newest = Math.min(this.newest, header.tick - 1);
    }
    if (header.tick <= this.newest) return [];
    this.newest = header.tick;
    this.arrivals.push(header.tick);
    this.arrivals = this.arrivals.filter((tick) => tick > header.tick - LOSS_TICKS);
    this.interpolator?.push(view);
    return [...this.lapse(), { type: "snapshot", header, view, complete }];
  }

  /** A second after a resume, results that have not come will not come. */
  private lapse(): SessionEvent[] {
    if (!this.welcome || this.newest < this.welcome.tick + this.welcome.tickRate) return [];
    const gone = this.commands.filter(({ seq }) => seq < this.takenUntil);
    this.commands = this.commands.slice(gone.length);
    return gone.map(({ seq }) => lapsed(seq));
  }

  /** Takes a message of the stream in, if it is for the game. */
  told(message: ServerMessage): SessionEvent[] {
    switch (message.type) {
      case "commandDone":
        this.commands = this.commands.filter(({ seq }) => seq !== message.seq);
        return [message];
      case "beat":
        this.beats = [{ tick: message.tick, hash: message.hash }, ...this.beats];
        this.beats.length = Math.min(this.beats.length, MAX_STOOD_BEATS);
        // The server tells the events of a tick before its hash.
        this.heardUntil = later(this.heardUntil, through(message.tick));
        return [message];
      case "event": {
        const at = { tick: message.tick, ordinal: message.ordinal };
        if (this.heardUntil && isBefore(at, this.heardUntil)) {
          this.counts.repeated += 1;
          return [];
        }
        this.heardUntil = { tick: at.tick, ordinal: at.ordinal + 1 };
        return [message];
      }
      case "rewound":
        // A snapshot of that epoch may have been faster: then the states were forgotten already.
        if (message.epoch > this.epoch) {
          this.epoch = message.epoch;
          this.rewind(message.to);
          this.receiver?.reset();
        }
        return [message];
      case "eventsMissed":
        this.heardUntil = later(this.heardUntil, through(message.to));
        this.counts.gaps += 1;
        return [message];
      case "ended":
        return [message];
      default:
        return [];
    }
  }
}
