/**
 * Whether a server is alive. A browser does not see packets, only what they carry: snapshots and
 * messages. So it waits longer than a native client, and looks twice, since a page that is busy
 * reads late.
 */
import type { Environment } from "./line.js";

/** Between the first and the second look at a server that says nothing. */
const SECOND_LOOK = 40;

export class Watch {
  private callOff: () => void;
  private heardAt: number;
  private strikes = 0;

  /** `patience`: milliseconds. `silent` is told again and again while nothing comes. */
  constructor(
    private readonly env: Environment,
    private readonly patience: () => number,
    private readonly silent: () => void,
  ) {
    this.heardAt = env.now();
    this.callOff = env.after(patience(), () => this.look());
  }

  heard(): void {
    this.heardAt = this.env.now();
    this.strikes = 0;
  }

  private look(): void {
    const left = this.heardAt + this.patience() - this.env.now();
    if (left > 0) {
      this.callOff = this.env.after(left, () => this.look());
      return;
    }
    this.strikes += 1;
    if (this.strikes >= 2) this.silent();
    this.callOff = this.env.after(SECOND_LOOK, () => this.look());
  }

  stop(): void {
    this.callOff();
  }
}
