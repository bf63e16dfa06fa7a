/** Draws a match on a canvas. */
import { type ArenaMap } from "../games/arena.js";
import { type Body, type WorldView } from "./world.js";
/** What is drawn besides the world. */
export interface Own {
    readonly slot: number | undefined;
    readonly name: string;
    /** Place, predicted. */
    readonly at: Body | undefined;
    readonly angle: number;
}
export declare class Painter {
    private readonly canvas;
    private readonly context;
    private still;
    private stillKey;
    private effects;
    private rockets;
    private living;
    private firing;
    private flash;
    private scale;
    private middle;
    private size;
    constructor(canvas: HTMLCanvasElement);
    /** Fits the canvas to its place on the screen, at the screen's own resolution. */
    private fit;
    /** A point of the screen, in metres. */
    toWorld(x: number, y: number): {
        x: number;
        y: number;
    };
    draw(map: ArenaMap, world: WorldView | undefined, own: Own, now: number): void;
    /** Everything that stands still, kept as a picture. */
    private drawMap;
    /** Finds what happened between two frames, and begins effects for it. */
    private notice;
    private begin;
    private disc;
    private drawPickup;
    private drawShots;
    private drawRocket;
    private drawFighter;
    private drawName;
    private drawEffects;
    /** The sticks of two thumbs. */
    drawSticks(sticks: readonly {
        from: {
            x: number;
            y: number;
        };
        to: {
            x: number;
            y: number;
        };
    }[]): void;
    /** How long a tick is, for callers that animate. */
    static readonly tickMs: number;
}
