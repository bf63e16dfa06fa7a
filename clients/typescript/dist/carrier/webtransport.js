/**
 * WebTransport as a carrier: one bidirectional stream that the client opens, and datagrams.
 *
 * `datagrams.writable` is gone in Safari 26.4 and Firefox 155; `createWritable()` is its successor.
 */
import { refusalOf, } from "../carrier.js";
function fromHex(hex) {
    return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}
function optionsOf(hashes) {
    const options = {
        allowPooling: false,
        requireUnreliable: true,
        congestionControl: "low-latency",
    };
    if (hashes.length === 0)
        return options;
    const algorithm = "sha-256";
    return {
        ...options,
        serverCertificateHashes: hashes.map((hash) => ({ algorithm, value: fromHex(hash) })),
    };
}
async function pump(from, to) {
    const reader = from.getReader();
    for (;;) {
        const { value, done } = await reader.read();
        if (done)
            return;
        to(value);
    }
}
function words(error) {
    return error instanceof Error ? error.message : String(error);
}
class Transport {
    session;
    events;
    kind = "webtransport";
    over = false;
    stream;
    datagrams;
    constructor(session, events) {
        this.session = session;
        this.events = events;
        void this.run();
    }
    async run() {
        const { session, events } = this;
        session.closed.then((info) => this.end({
            refusal: refusalOf(info?.closeCode),
            reason: info?.reason || "the server closed the connection",
        }), (error) => this.end({ refusal: undefined, reason: words(error) }));
        try {
            await session.ready;
            const { readable, writable } = await session.createBidirectionalStream();
            const { datagrams } = session;
            const outgoing = datagrams.createWritable?.() ?? datagrams.writable;
            if (this.over)
                return;
            this.stream = writable.getWriter();
            this.datagrams = outgoing?.getWriter();
            events.opened();
            // How either of them ends, `closed` says better.
            pump(readable, (bytes) => this.over || events.stream(bytes)).catch(() => undefined);
            pump(datagrams.readable, (bytes) => this.over || events.datagram(bytes)).catch(() => undefined);
        }
        catch (error) {
            this.end({ refusal: undefined, reason: words(error) });
        }
    }
    end(closed) {
        if (this.over)
            return;
        this.over = true;
        this.events.closed(closed);
    }
    send(bytes) {
        this.stream?.write(bytes).catch(() => undefined);
    }
    datagram(bytes) {
        this.datagrams?.write(bytes).catch(() => undefined);
    }
    close() {
        this.over = true;
        try {
            this.session.close({ closeCode: 0, reason: "" });
        }
        catch {
            // It never was open.
        }
    }
}
/** Connects by WebTransport. */
export function webTransportCarrier(WebTransport) {
    return (target, events) => {
        const { url, hashes } = target.webtransport;
        return new Transport(new WebTransport(url, optionsOf(hashes)), events);
    };
}
