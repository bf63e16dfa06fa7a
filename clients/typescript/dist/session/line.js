import { ProtocolError } from "../error.js";
import { decodeServer, encodeClient } from "../messages.js";
import { Framer } from "../wire.js";
export class Line {
    handler;
    address;
    carrier;
    framer = new Framer();
    over = false;
    constructor(env, target, handler) {
        this.handler = handler;
        this.address = target.address;
        this.carrier = env.open(target, {
            opened: () => this.over || this.handler.opened(this),
            stream: (bytes) => this.stream(bytes),
            datagram: (bytes) => this.over || this.handler.datagram(this, bytes),
            closed: (closed) => this.end(closed),
        });
    }
    get kind() {
        return this.carrier.kind;
    }
    stream(bytes) {
        try {
            if (this.over)
                return;
            for (const message of this.framer.push(bytes)) {
                const decoded = decodeServer(message);
                if (!this.over)
                    this.handler.message(this, decoded);
            }
        }
        catch (error) {
            if (!(error instanceof ProtocolError))
                throw error;
            this.carrier.close();
            const reason = `the server broke the protocol: ${error.message}`;
            this.end({ refusal: undefined, reason });
        }
    }
    end(closed) {
        if (this.over)
            return;
        this.over = true;
        this.handler.closed(this, closed);
    }
    send(message) {
        if (!this.over)
            this.carrier.send(encodeClient(message));
    }
    datagram(bytes) {
        if (!this.over)
            this.carrier.datagram(bytes);
    }
    /** Ends the connection; nobody is told. */
    close() {
        if (this.over)
            return;
        this.over = true;
        this.carrier.close();
    }
}
