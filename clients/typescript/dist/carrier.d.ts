/** What carries a session: a stream of bytes both ways, and datagrams both ways. */
export type CarrierKind = "webtransport" | "websocket";
/** How a connection ended, as far as this side knows. */
export interface Closed {
    /** The number n of the close code 0x100 + n, if the server said one. */
    readonly refusal: number | undefined;
    /** For people. */
    readonly reason: string;
}
/** What a carrier tells. Nothing is told before `open` was returned, and nothing behind `closed`. */
export interface CarrierEvents {
    /** The handshake is complete. */
    opened(): void;
    /** Bytes of the stream, cut anywhere. */
    stream(bytes: Uint8Array): void;
    datagram(bytes: Uint8Array): void;
    /** The connection is gone, or was never made. */
    closed(closed: Closed): void;
}
export interface Carrier {
    readonly kind: CarrierKind;
    /** Sends bytes of the stream. */
    send(bytes: Uint8Array): void;
    /** Sends a datagram; it may be lost. */
    datagram(bytes: Uint8Array): void;
    /** Ends the connection. `closed` is not told. */
    close(): void;
}
/** Where a node is, by all carriers that it may have. */
export interface Target {
    /** `host:port`. */
    readonly address: string;
    readonly webtransport: {
        readonly url: string;
        readonly hashes: readonly string[];
    } | undefined;
    readonly websocket: {
        readonly url: string;
        readonly protocol: string;
    } | undefined;
}
/** Begins to connect by one carrier. */
export type OpenCarrier = (target: Target, events: CarrierEvents) => Carrier;
/** A close code of QUIC, as a refusal. */
export declare function refusalOf(code: number | undefined): number | undefined;
