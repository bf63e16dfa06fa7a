const [STREAM, DATAGRAM] = [0, 1];
/** A datagram is dropped when so many bytes wait already: a newer one comes soon. */
const MOST_WAITING = 16_384;
function tagged(tag, bytes) {
    const message = new Uint8Array(bytes.length + 1);
    message[0] = tag;
    message.set(bytes, 1);
    return message;
}
function hear(socket, data, events) {
    const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : undefined;
    const rest = bytes?.subarray(1);
    if (rest !== undefined && bytes?.[0] === STREAM)
        events.stream(rest);
    else if (rest !== undefined && bytes?.[0] === DATAGRAM)
        events.datagram(rest);
    else
        socket.close(4009, "a message that is neither stream nor datagram");
}
/** Connects by WebSocket. */
export function webSocketCarrier(WebSocket) {
    return (target, events) => {
        const { url, protocol } = target.websocket;
        const socket = new WebSocket(url, protocol);
        let over = false;
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
            if (!over)
                events.opened();
        };
        socket.onmessage = ({ data }) => {
            if (!over)
                hear(socket, data, events);
        };
        socket.onclose = ({ code, reason }) => {
            if (over)
                return;
            over = true;
            const refusal = code >= 4000 && code < 4256 ? code - 4000 : undefined;
            events.closed({ refusal, reason: reason || `the WebSocket closed (${code})` });
        };
        return {
            kind: "websocket",
            send: (bytes) => {
                if (socket.readyState === 1)
                    socket.send(tagged(STREAM, bytes));
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
