/**
 * WebSocket as a carrier. Binary messages; the first byte says what follows: 0 bytes of the stream,
 * 1 a datagram. Close codes are 4000 + n for a refusal n.
 */
import type { OpenCarrier } from "../carrier.js";
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
/** Connects by WebSocket. */
export declare function webSocketCarrier(WebSocket: WebSocketConstructor): OpenCarrier;
