/** So long WebTransport has alone, in milliseconds. */
export const HEAD_START_MS = 1000;
/** Begins to connect to a node by one of the ways; `closed` is told when all have failed. */
export function openEither(ways, after, target, events) {
    const begun = [];
    const waiting = [];
    if (ways.webtransport && target.webtransport)
        waiting.push(ways.webtransport);
    if (ways.websocket && target.websocket)
        waiting.push(ways.websocket);
    let taken;
    let over = false;
    let failed = { refusal: undefined, reason: "no carrier that both sides have" };
    let callOff = () => undefined;
    const next = () => {
        callOff();
        const way = waiting.shift();
        if (over || taken)
            return;
        if (way === undefined) {
            // The last one has failed; told later, so that the caller has what this returns.
            if (begun.length === 0)
                callOff = after(0, () => {
                    if (!over)
                        events.closed(failed);
                });
            return;
        }
        if (waiting.length > 0)
            callOff = after(HEAD_START_MS, next);
        begin(way);
    };
    const begin = (way) => {
        const entry = { way };
        begun.push(entry);
        const mine = () => !over && (taken === undefined || taken === entry.carrier);
        const drop = () => {
            begun.splice(begun.indexOf(entry), 1);
        };
        try {
            entry.carrier = way(target, {
                opened: () => {
                    if (!mine())
                        return;
                    taken = entry.carrier;
                    callOff();
                    for (const other of begun)
                        if (other !== entry)
                            other.carrier?.close();
                    events.opened();
                },
                stream: (bytes) => mine() && events.stream(bytes),
                datagram: (bytes) => mine() && events.datagram(bytes),
                closed: (closed) => {
                    if (!mine())
                        return;
                    if (taken) {
                        over = true;
                        events.closed(closed);
                        return;
                    }
                    failed = closed;
                    drop();
                    next();
                },
            });
        }
        catch (error) {
            failed = { refusal: undefined, reason: String(error) };
            drop();
            next();
        }
    };
    next();
    return {
        get kind() {
            return taken?.kind ?? "websocket";
        },
        send: (bytes) => taken?.send(bytes),
        datagram: (bytes) => taken?.datagram(bytes),
        close: () => {
            over = true;
            callOff();
            for (const { carrier } of begun)
                carrier?.close();
        },
    };
}
