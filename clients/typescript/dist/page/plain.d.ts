/** Draws matches of games that the page does not know: sketches, or entities by their schema. */
import { type Scene, type Schema, type Thing } from "../index.js";
import type { Sketch } from "./sketch.js";
/** One canvas. */
export declare class PlainPainter {
    readonly canvas: HTMLCanvasElement;
    private readonly context;
    private extent;
    private toScreen;
    constructor(canvas: HTMLCanvasElement);
    clear(): void;
    /** Fits what is seen into the window, y upwards. */
    private fit;
    private at;
    sketch(sketch: Sketch): void;
    private shape;
    /** Dots where things are, one colour for each set of components; the rest as a list of cards. */
    scene(schema: Schema, scene: Scene): void;
    /** Keeps in view what was in view: a picture that jumps is no picture. */
    private grow;
    private cards;
    /** The thing nearest to a place on the screen. */
    nearest(schema: Schema, scene: Scene, x: number, y: number): Thing | undefined;
    mark(schema: Schema, thing: Thing): void;
}
/** All fields of a thing by name, as text. */
export declare function described(schema: Schema, thing: Thing): [string, string][];
