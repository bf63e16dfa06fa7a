import { PROTOCOL, PROTOCOL_5, PROTOCOL_6 } from "./messages.js";
const PATH = "/rekindle/4";
const SUBPROTOCOL = "rekindle.4";
/** Most bytes of an address. */
const MAX_ADDRESS = 255;
/** Whether somebody can be at `host:port`. */
export function isUsable(address) {
    const found = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+):(\d{1,5})$/i.exec(address);
    if (!found || address.length > MAX_ADDRESS)
        return false;
    const [host, port] = [found[1].toLowerCase(), Number(found[2])];
    if (port === 0 || port > 65_535)
        return false;
    const nobody = host === "[::]" || host.startsWith("[ff") || host === "0.0.0.0";
    const many = /^(22[4-9]|23\d)\.\d+\.\d+\.\d+$/.test(host) || host === "255.255.255.255";
    return !nobody && !many;
}
/** `host:port` of a URL, the port always said. */
export function addressOf(url) {
    const { hostname, port, protocol } = new URL(url);
    const usual = protocol === "http:" || protocol === "ws:" ? "80" : "443";
    return `${hostname}:${port || usual}`;
}
/** Builds targets of addresses; all nodes of a cluster are reached as the first one is. */
export class Directory {
    hashes = [];
    certified = false;
    webtransport = false;
    websocket = "";
    protocol = SUBPROTOCOL;
    version = PROTOCOL;
    /** What a node published. */
    learn(edge) {
        this.webtransport ||= edge.webtransport !== undefined;
        this.certified = edge.webtransport !== undefined && edge.webtransport.hashes === undefined;
        const told = edge.webtransport?.hashes ?? [];
        // Those of before are kept for a while: another node may still show them.
        this.hashes = [...new Set([...told, ...this.hashes])].slice(0, 8);
        if (edge.websocket)
            this.websocket = new URL(edge.websocket.url).protocol;
        this.protocol = edge.websocket?.protocol ?? this.protocol;
        const spoken = (version) => edge.protocols.includes(version);
        this.version = [PROTOCOL_6, PROTOCOL_5].find(spoken) ?? PROTOCOL;
    }
    /** The version of the protocol that nodes are greeted in. */
    get speaks() {
        return this.version;
    }
    /** A node refused that version: whether there is a lower one to try. */
    speakLess() {
        const less = this.version > PROTOCOL;
        this.version = PROTOCOL;
        return less;
    }
    /** Whether anything was learnt. */
    get isKnown() {
        return this.webtransport || this.websocket !== "";
    }
    target(address) {
        return {
            address,
            webtransport: this.webtransport
                ? { url: `https://${address}${PATH}`, hashes: this.certified ? [] : this.hashes }
                : undefined,
            websocket: this.websocket
                ? { url: `${this.websocket}//${address}${PATH}`, protocol: this.protocol }
                : undefined,
        };
    }
    /** Where the node at an address publishes what it is reached by. */
    page(address) {
        return `${this.websocket === "wss:" ? "https:" : "http:"}//${address}/edge.json`;
    }
}
