/**
 * Whether a server is alive. A browser does not see packets, only what they carry: snapshots and
 * messages. So it waits longer than a native client, and looks twice, since a page that is busy
 * reads late.
 */
import type { Environment } from "./line.js";
export declare class Watch {
    private readonly env;
    private readonly patience;
    private readonly silent;
    private callOff;
    private heardAt;
    private strikes;
    /** `patience`: milliseconds. `silent` is told again and again while nothing comes. */
    constructor(env: Environment, patience: () => number, silent: () => void);
    heard(): void;
    private look;
    stop(): void;
}
