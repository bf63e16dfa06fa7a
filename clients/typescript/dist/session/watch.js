/** Between the first and the second look at a server that says nothing. */
const SECOND_LOOK = 40;
export class Watch {
    env;
    patience;
    silent;
    callOff;
    heardAt;
    strikes = 0;
    /** `patience`: milliseconds. `silent` is told again and again while nothing comes. */
    constructor(env, patience, silent) {
        this.env = env;
        this.patience = patience;
        this.silent = silent;
        this.heardAt = env.now();
        this.callOff = env.after(patience(), () => this.look());
    }
    heard() {
        this.heardAt = this.env.now();
        this.strikes = 0;
    }
    look() {
        const left = this.heardAt + this.patience() - this.env.now();
        if (left > 0) {
            this.callOff = this.env.after(left, () => this.look());
            return;
        }
        this.strikes += 1;
        if (this.strikes >= 2)
            this.silent();
        this.callOff = this.env.after(SECOND_LOOK, () => this.look());
    }
    stop() {
        this.callOff();
    }
}
