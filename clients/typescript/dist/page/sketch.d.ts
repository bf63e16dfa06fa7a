/** Pictures of a match, as the node that runs it sketches them (`/play/sketch/MATCH`). */
/** What a shape is drawn with: what stands still, a kind of thing, or a player's colour. */
export type Ink = "still" | {
    readonly kind: number;
} | {
    readonly player: string;
};
type Pair = readonly [number, number];
export type Shape = {
    readonly point: {
        readonly at: Pair;
        readonly ink: Ink;
    };
} | {
    readonly circle: {
        readonly at: Pair;
        readonly radius: number;
        readonly ink: Ink;
    };
} | {
    readonly line: {
        readonly from: Pair;
        readonly to: Pair;
        readonly ink: Ink;
    };
} | {
    readonly rectangle: {
        readonly min: Pair;
        readonly max: Pair;
        readonly ink: Ink;
    };
};
export interface Sketch {
    /** Left and right edge, lower and upper edge. */
    readonly x: Pair;
    readonly y: Pair;
    readonly title: string;
    /** Back to front. */
    readonly shapes: readonly Shape[];
    /** Player and text, best first. */
    readonly board: readonly (readonly [string, string])[];
}
/** The newest sketch of a match. Gives up by itself where there is none. */
export declare class Sketches {
    private source;
    private last;
    /** Asks the node that has the match from now on. */
    follow(origin: string, match: string): void;
    get newest(): Sketch | undefined;
    close(): void;
}
export {};
