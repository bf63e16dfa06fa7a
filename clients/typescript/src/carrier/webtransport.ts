/**
 * WebTransport as a carrier: one bidirectional stream that the client opens, and datagrams.
 *
 * `datagrams.writable` is gone in Safari 26.4 and Firefox 155; `createWritable()` is its successor.
 */
import {
  refusalOf,
  type Carrier,
  type CarrierEvents,
  type Closed,
  type OpenCarrier,
} from "../carrier.js";

/** The part of the standard's WebTransport that is used here, in its older and newer shape. */
export interface WebTransportLike {
  readonly ready: Promise<unknown>;
  readonly closed: Promise<{ closeCode?: number; reason?: string } | undefined>;
  readonly datagrams: {
    readonly readable: ReadableStream<Uint8Array>;
    readonly writable?: WritableStream<Uint8Array>;
    createWritable?(): WritableStream<Uint8Array>;
  };
  createBidirectionalStream(): Promise<{
    readonly readable: ReadableStream<Uint8Array>;
    readonly writable: WritableStream<Uint8Array>;
  }>;
  close(info?: { closeCode?: number; reason?: string }): void;
}

export type WebTransportConstructor = new (
  url: string,
  options: {
    allowPooling: boolean;
    requireUnreliable: boolean;
    congestionControl: "low-latency";
    serverCertificateHashes?: { algorithm: "sha-256"; value: Uint8Array }[];
  },
) => WebTransportLike;

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

function optionsOf(hashes: readonly string[]): ConstructorParameters<WebTransportConstructor>[1] {
  const options = {
    allowPooling: false,
    requireUnreliable: true,
    congestionControl: "low-latency" as const,
  };
  if (hashes.length === 0) return options;
  const algorithm = "sha-256" as const;
  return {
    ...options,
    serverCertificateHashes: hashes.map((hash) => ({ algorithm, value: fromHex(hash) })),
  };
}

async function pump(from: ReadableStream<Uint8Array>, to: (bytes: Uint8Array) => void): Promise<void> {
  const reader = from.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    to(value);
  }
}

function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

class Transport implements Carrier {
  readonly kind = "webtransport";
  private over = false;
  private stream: WritableStreamDefaultWriter<Uint8Array> | undefined;
  private datagrams: WritableStreamDefaultWriter<Uint8Array> | undefined;

  constructor(
    private readonly session: WebTransportLike,
    private readonly events: CarrierEvents,
  ) {
    void this.run();
  }

  private async run(): Promise<void> {
    const { session, events } = this;
    session.closed.then(
      (info) => this.end({
        refusal: refusalOf(info?.closeCode),
        reason: info?.reason || "the server closed the connection",
      }),
      (error: unknown) => this.end({ refusal: undefined, reason: words(error) }),
    );
    try {
      await session.ready;
      const { readable, writable } = await session.createBidirectionalStream();
      const { datagrams } = session;
      const outgoing = datagrams.createWritable?.() ?? datagrams.writable;
      if (this.over) return;
      this.stream = writable.getWriter();
      this.datagrams = outgoing?.getWriter();
      events.opened();
      // How either of them ends, `closed` says better.
      pump(readable, (bytes) => this.over || events.stream(bytes)).catch(() => undefined);
      pump(datagrams.readable, (bytes) => this.over || events.datagram(bytes)).catch(
        () => undefined,
      );
    } catch (error) {
      this.end({ refusal: undefined, reason: words(error) });
    }
  }

  private end(closed: Closed): void {
    if (this.over) return;
    this.over = true;
    this.events.closed(closed);
  }

  send(bytes: Uint8Array): void {
    this.stream?.write(bytes).catch(() => undefined);
  }

  datagram(bytes: Uint8Array): void {
    this.datagrams?.write(bytes).catch(() => undefined);
  }

  close(): void {
    this.over = true;
    try {
      this.session.close({ closeCode: 0, reason: "" });
    } catch {
      // It never was open.
    }
  }
}

/** Connects by WebTransport. */
export function webTransportCarrier(WebTransport: WebTransportConstructor): OpenCarrier {
  return (target, events) => {
    const { url, hashes } = target.webtransport!;
    return new Transport(new WebTransport(url, optionsOf(hashes)), events);
  };
}
