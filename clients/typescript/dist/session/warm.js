import { Line } from "./line.js";
/** A standby that cannot be reached, or lets nobody wait, is asked again after so long. */
const TRY_AGAIN = 5000;
export class Warm {
    env;
    directory;
    address;
    hello;
    here;
    line;
    callOff;
    stopped = false;
    constructor(env, directory, address, hello, here) {
        this.env = env;
        this.directory = directory;
        this.address = address;
        this.hello = hello;
        this.here = here;
        this.callOff = env.after(0, () => this.dial());
    }
    dial() {
        this.line = new Line(this.env, this.directory.target(this.address), this);
    }
    again() {
        this.line = undefined;
        if (!this.stopped)
            this.callOff = this.env.after(TRY_AGAIN, () => this.dial());
    }
    opened(line) {
        line.send({ type: "wait", ...this.hello });
    }
    message(line, message) {
        if (message.type === "refused") {
            line.close();
            this.again();
        }
        if (message.type !== "here" || this.stopped)
            return;
        this.stopped = true;
        this.here(this, line);
    }
    datagram() {
        // Nothing is sent to who waits.
    }
    closed() {
        this.again();
    }
    stop() {
        this.stopped = true;
        this.callOff();
        this.line?.close();
    }
}
