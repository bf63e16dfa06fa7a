/**
 * WebTransport as a carrier: one bidirectional stream that the client opens, and datagrams.
 *
 * `datagrams.writable` is gone in Safari 26.4 and Firefox 155; `createWritable()` is its successor.
 */
import { type OpenCarrier } from "../carrier.js";
/** The part of the standard's WebTransport that is used here, in its older and newer shape. */
export interface WebTransportLike {
    readonly ready: Promise<unknown>;
    readonly closed: Promise<{
        closeCode?: number;
        reason?: string;
    } | undefined>;
    readonly datagrams: {
        readonly readable: ReadableStream<Uint8Array>;
        readonly writable?: WritableStream<Uint8Array>;
        createWritable?(): WritableStream<Uint8Array>;
    };
    createBidirectionalStream(): Promise<{
        readonly readable: ReadableStream<Uint8Array>;
        readonly writable: WritableStream<Uint8Array>;
    }>;
    close(info?: {
        closeCode?: number;
        reason?: string;
    }): void;
}
export type WebTransportConstructor = new (url: string, options: {
    allowPooling: boolean;
    requireUnreliable: boolean;
    congestionControl: "low-latency";
    serverCertificateHashes?: {
        algorithm: "sha-256";
        value: Uint8Array;
    }[];
}) => WebTransportLike;
/** Connects by WebTransport. */
export declare function webTransportCarrier(WebTransport: WebTransportConstructor): OpenCarrier;
