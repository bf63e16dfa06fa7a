const WAYS = {
    KeyW: [0, 1],
    ArrowUp: [0, 1],
    KeyS: [0, -1],
    ArrowDown: [0, -1],
    KeyA: [-1, 0],
    ArrowLeft: [-1, 0],
    KeyD: [1, 0],
    ArrowRight: [1, 0],
};
const NUMBERS = {
    Digit1: "blaster",
    Digit2: "shotgun",
    Digit3: "launcher",
};
/** A thumb moves so many pixels for all. */
const REACH = 48;
export class Controls {
    /** Where the mouse is, on the screen; `undefined` while thumbs aim. */
    mouse;
    /** Where the right thumb aims, radians. */
    thumbAngle = 0;
    onSwitch = () => undefined;
    /** A direction key went down: for measuring. */
    onPress = () => undefined;
    held = new Set();
    button = false;
    touches = new Map();
    constructor(canvas) {
        window.addEventListener("keydown", (event) => this.key(event));
        window.addEventListener("keyup", ({ code }) => this.held.delete(code));
        window.addEventListener("blur", () => {
            this.held.clear();
            this.touches.clear();
            this.button = false;
        });
        canvas.addEventListener("contextmenu", (event) => event.preventDefault());
        canvas.addEventListener("pointerdown", (event) => this.down(canvas, event));
        window.addEventListener("pointermove", (event) => this.move(event));
        for (const end of ["pointerup", "pointercancel"]) {
            window.addEventListener(end, (event) => {
                this.touches.delete(event.pointerId);
                if (event.pointerType !== "touch")
                    this.button = false;
            });
        }
    }
    key(event) {
        if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey)
            return;
        const { code, repeat } = event;
        const weapon = NUMBERS[code];
        if (weapon && !repeat)
            this.onSwitch(weapon);
        if (!WAYS[code] && code !== "Space")
            return;
        event.preventDefault();
        if (!repeat && WAYS[code])
            this.onPress(performance.now());
        this.held.add(code);
    }
    down(canvas, event) {
        const at = { x: event.clientX, y: event.clientY };
        if (event.pointerType !== "touch") {
            this.button = event.button === 0;
            this.mouse = at;
            return;
        }
        event.preventDefault();
        canvas.setPointerCapture?.(event.pointerId);
        const side = at.x < window.innerWidth / 2 ? "left" : "right";
        this.touches.set(event.pointerId, { side, stick: { from: at, to: at } });
        this.mouse = undefined;
    }
    move(event) {
        const at = { x: event.clientX, y: event.clientY };
        if (event.pointerType !== "touch") {
            this.mouse = at;
            return;
        }
        const touch = this.touches.get(event.pointerId);
        if (!touch)
            return;
        touch.stick.to = at;
        const { from } = touch.stick;
        if (touch.side === "right" && Math.hypot(at.x - from.x, at.y - from.y) > 8) {
            this.thumbAngle = Math.atan2(from.y - at.y, at.x - from.x);
        }
    }
    stick(side) {
        return [...this.touches.values()].find((touch) => touch.side === side)?.stick;
    }
    get sticks() {
        return [...this.touches.values()].map(({ stick }) => stick);
    }
    /** Where to go: at most of length 1. */
    direction() {
        const thumb = this.stick("left");
        let [x, y] = [0, 0];
        if (thumb) {
            [x, y] = [(thumb.to.x - thumb.from.x) / REACH, (thumb.from.y - thumb.to.y) / REACH];
        }
        for (const code of this.held) {
            const way = WAYS[code];
            if (way)
                [x, y] = [x + way[0], y + way[1]];
        }
        const length = Math.hypot(x, y);
        return length > 1 ? { x: x / length, y: y / length } : { x, y };
    }
    get fires() {
        const thumb = this.stick("right");
        const pulled = thumb && Math.hypot(thumb.to.x - thumb.from.x, thumb.to.y - thumb.from.y) > 14;
        return this.button || this.held.has("Space") || pulled === true;
    }
}
