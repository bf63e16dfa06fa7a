/**
 * A connection that is made before it is needed: to the node that goes on with the match when its
 * owner dies. It holds no session; the node says when the match runs there.
 */
import type { Directory } from "../edge.js";
import type { Hello } from "../messages.js";
import { Line, type Environment, type LineHandler } from "./line.js";

/** A standby that cannot be reached, or lets nobody wait, is asked again after so long. */
const TRY_AGAIN = 5000;

export class Warm implements LineHandler {
  private line: Line | undefined;
  private callOff: () => void;
  private stopped = false;

  constructor(
    private readonly env: Environment,
    private readonly directory: Directory,
    readonly address: string,
    private readonly hello: Hello,
    private readonly here: (warm: Warm, line: Line) => void,
  ) {
    this.callOff = env.after(0, () => this.dial());
  }

  private dial(): void {
    this.line = new Line(this.env, this.directory.target(this.address), this);
  }

  private again(): void {
    this.line = undefined;
    if (!this.stopped) this.callOff = this.env.after(TRY_AGAIN, () => this.dial());
  }

  opened(line: Line): void {
    line.send({ type: "wait", ...this.hello });
  }

  message(line: Line, message: Parameters<LineHandler["message"]>[1]): void {
    if (message.type === "refused") {
      line.close();
      this.again();
    }
    if (message.type !== "here" || this.stopped) return;
    this.stopped = true;
    this.here(this, line);
  }

  datagram(): void {
    // Nothing is sent to who waits.
  }

  closed(): void {
    this.again();
  }

  stop(): void {
    this.stopped = true;
    this.callOff();
    this.line?.close();
  }
}
