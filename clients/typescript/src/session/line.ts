/** One connection to a node: a carrier, and the messages cut out of its stream. */
import type { Carrier, CarrierEvents, Closed, Target } from "../carrier.js";
import type { Edge } from "../edge.js";
import { ProtocolError } from "../error.js";
import { decodeServer, encodeClient, type ClientMessage, type ServerMessage } from "../messages.js";
import { Framer } from "../wire.js";

/** The world outside, so that tests have a time and a network of their own. */
export interface Environment {
  /** Milliseconds of a clock that never jumps. */
  now(): number;
  /** Runs something later; returns how to call it off. */
  after(ms: number, run: () => void): () => void;
  /** 0 to 1. */
  random(): number;
  /** Begins to connect. Tells nothing before it has returned. */
  open(target: Target, events: CarrierEvents): Carrier;
  /** Reads what a node publishes. */
  edge(url: string): Promise<Edge>;
}

/** Who is told what comes over a line. */
export interface LineHandler {
  opened(line: Line): void;
  message(line: Line, message: ServerMessage): void;
  datagram(line: Line, bytes: Uint8Array): void;
  closed(line: Line, closed: Closed): void;
}

export class Line {
  readonly address: string;
  private readonly carrier: Carrier;
  private readonly framer = new Framer();
  private over = false;

  constructor(env: Environment, target: Target, public handler: LineHandler) {
    this.address = target.address;
    this.carrier = env.open(target, {
      opened: () => this.over || this.handler.opened(this),
      stream: (bytes) => this.stream(bytes),
      datagram: (bytes) => this.over || this.handler.datagram(this, bytes),
      closed: (closed) => this.end(closed),
    });
  }

  get kind(): Carrier["kind"] {
    return this.carrier.kind;
  }

  private stream(bytes: Uint8Array): void {
    try {
      if (this.over) return;
      for (const message of this.framer.push(bytes)) {
        const decoded = decodeServer(message);
        if (!this.over) this.handler.message(this, decoded);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.carrier.close();
      const reason = `the server broke the protocol: ${error.message}`;
      this.end({ refusal: undefined, reason });
    }
  }

  private end(closed: Closed): void {
    if (this.over) return;
    this.over = true;
    this.handler.closed(this, closed);
  }

  send(message: ClientMessage): void {
    if (!this.over) this.carrier.send(encodeClient(message));
  }

  datagram(bytes: Uint8Array): void {
    if (!this.over) this.carrier.datagram(bytes);
  }

  /** Ends the connection; nobody is told. */
  close(): void {
    if (this.over) return;
    this.over = true;
    this.carrier.close();
  }
}
