/**
 * WebSocket as a carrier. Binary messages; the first byte says what follows: 0 bytes of the stream,
 * 1 a datagram. Close codes are 4000 + n for a refusal n.
 */
import type { Carrier, CarrierEvents, OpenCarrier } from "../carrier.js";

const [STREAM, DATAGRAM] = [0, 1];
/** A datagram is dropped when so many bytes wait already: a newer one comes soon. */
const MOST_WAITING = 16_384;

/** The part of the standard's WebSocket that is used here. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  send(data: Uint8Array): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
}

/** `new WebSocket(url, protocol)`, or another implementation of it. */
export type WebSocketConstructor = new (url: string, protocol: string) => WebSocketLike;

function tagged(tag: number, bytes: Uint8Array): Uint8Array {
  const message = new Uint8Array(bytes.length + 1);
  message[0] = tag;
  message.set(bytes, 1);
  return message;
}

function hear(socket: WebSocketLike, data: unknown, events: CarrierEvents): void {
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : undefined;
  const rest = bytes?.subarray(1);
  if (rest !== undefined && bytes?.[0] === STREAM) events.stream(rest);
  else if (rest !== undefined && bytes?.[0] === DATAGRAM) events.datagram(rest);
  else socket.close(4009, "a message that is neither stream nor datagram");
}

/** Connects by WebSocket. */
export function webSocketCarrier(WebSocket: WebSocketConstructor): OpenCarrier {
  return (target, events): Carrier => {
    const { url, protocol } = target.websocket!;
    const socket = new WebSocket(url, protocol);
    let over = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = (): void => {
      if (!over) events.opened();
    };
    socket.onmessage = ({ data }: { data: unknown }): void => {
      if (!over) hear(socket, data, events);
    };
    socket.onclose = ({ code, reason }: { code: number; reason: string }): void => {
      if (over) return;
      over = true;
      const refusal = code >= 4000 && code < 4256 ? code - 4000 : undefined;
      events.closed({ refusal, reason: reason || `the WebSocket closed (${code})` });
    };
    return {
      kind: "websocket",
      send: (bytes) => {
        if (socket.readyState === 1) socket.send(tagged(STREAM, bytes));
      },
      datagram: (bytes) => {
        if (socket.readyState === 1 && socket.bufferedAmount < MOST_WAITING) {
          socket.send(tagged(DATAGRAM, bytes));
        }
      },
      close: () => {
        over = true;
        socket.close(1000);
      },
    };
  };
}
