/** A match of the arena as the page draws it: of a scene's entities, what is where. */
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
/** What a schema's rows say of a fighter, before they are quantities: columns. */
export interface Place {
    readonly x: number;
    readonly y: number;
    readonly vx: number;
    readonly vy: number;
    readonly health: number;
}
/** Reads matches of the arena out of scenes. */
export declare class Eyes {
    /** For whoever reads rows. */
    readonly place: Place;
    private readonly read;
    constructor(schema: Schema);
    see(scene: Scene): WorldView;
}
/** The protocol tells numbers of players and no names: each gets a callsign, the same everywhere. */
export declare function callsign(player: bigint): string;
/** Whether a house bot of the node steers it. */
export declare function isBot(player: bigint): boolean;
/** A colour for a player, calm and bright enough on dark. */
export declare function colour(player: bigint): string;
