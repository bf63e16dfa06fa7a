/**
 * A connection that is made before it is needed: to the node that goes on with the match when its
 * owner dies. It holds no session; the node says when the match runs there.
 */
import type { Directory } from "../edge.js";
import type { Hello } from "../messages.js";
import { Line, type Environment, type LineHandler } from "./line.js";
export declare class Warm implements LineHandler {
    private readonly env;
    private readonly directory;
    readonly address: string;
    private readonly hello;
    private readonly here;
    private line;
    private callOff;
    private stopped;
    constructor(env: Environment, directory: Directory, address: string, hello: Hello, here: (warm: Warm, line: Line) => void);
    private dial;
    private again;
    opened(line: Line): void;
    message(line: Line, message: Parameters<LineHandler["message"]>[1]): void;
    datagram(): void;
    closed(): void;
    stop(): void;
}
