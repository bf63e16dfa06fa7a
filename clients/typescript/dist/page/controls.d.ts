/** What the player's hands do: keyboard, mouse, two thumbs. */
import type { Weapon } from "../games/arena.js";
interface Point {
    x: number;
    y: number;
}
interface Stick {
    readonly from: Point;
    to: Point;
}
export declare class Controls {
    /** Where the mouse is, on the screen; `undefined` while thumbs aim. */
    mouse: Point | undefined;
    /** Where the right thumb aims, radians. */
    thumbAngle: number;
    onSwitch: (weapon: Weapon) => void;
    /** A direction key went down: for measuring. */
    onPress: (at: number) => void;
    private readonly held;
    private button;
    private readonly touches;
    constructor(canvas: HTMLCanvasElement);
    private key;
    private down;
    private move;
    private stick;
    get sticks(): Stick[];
    /** Where to go: at most of length 1. */
    direction(): Point;
    get fires(): boolean;
}
export {};
