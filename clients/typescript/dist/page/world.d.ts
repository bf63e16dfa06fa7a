/** A match of the arena as the page draws it: of a scene's columns, what is where. */
import { type Phase, type Pickup, type Weapon } from "../games/arena.js";
import { type Scene, type Schema } from "../index.js";
export interface Body {
    readonly slot: number;
    readonly x: number;
    readonly y: number;
}
export interface FighterView extends Body {
    readonly player: bigint;
    readonly angle: number;
    readonly firing: boolean;
    readonly health: number;
    readonly weapon: Weapon;
    readonly shells: number;
    readonly rockets: number;
    readonly kills: number;
    readonly deaths: number;
}
export interface RocketView extends Body {
    readonly vx: number;
    readonly vy: number;
}
export interface WorldView {
    readonly tick: number;
    readonly fighters: readonly FighterView[];
    readonly drones: readonly Body[];
    readonly rockets: readonly RocketView[];
    readonly pickups: readonly (Body & {
        readonly kind: Pickup;
    })[];
    readonly phase: Phase;
    /** Seconds until the phase ends; 0 if nothing is set. */
    readonly seconds: number;
}
/** Finds the columns of the arena in a schema. */
export declare class Eyes {
    private readonly at;
    private readonly clock;
    private readonly columns;
    constructor(schema: Schema);
    /** Place and velocity of a row or of a thing's values, before they are quantities. */
    get place(): {
        x: number;
        y: number;
        vx: number;
        vy: number;
        health: number;
    };
    private fighter;
    see(scene: Scene): WorldView;
}
/** The protocol tells numbers of players and no names: each gets a callsign, the same everywhere. */
export declare function callsign(player: bigint): string;
/** Whether a house bot of the node steers it. */
export declare function isBot(player: bigint): boolean;
/** A colour for a player, calm and bright enough on dark. */
export declare function colour(player: bigint): string;
