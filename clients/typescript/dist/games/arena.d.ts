import type { Predictor } from "../predict.js";
export interface Vec {
    readonly x: number;
    readonly y: number;
}
/** Ticks per second. */
export declare const TICK_RATE = 30;
/** Radius of a fighter, metres. */
export declare const FIGHTER_RADIUS = 0.5;
/** A box with sides along the axes. */
export interface Box {
    readonly min: Vec;
    readonly max: Vec;
}
/** What stands still in a match. The origin is the middle. */
export interface ArenaMap {
    /** Half of width and height. */
    readonly half: Vec;
    readonly walls: readonly Box[];
}
/** The map of a name and a size in metres; an open field for a name that is none. */
export declare function arenaMap(name: string, width: number, height: number): ArenaMap;
/** What a player wants in a tick. */
export interface ArenaInput {
    /** -127 (left) to 127 (right). */
    readonly right: number;
    /** -127 (down) to 127 (up). */
    readonly up: number;
    /** 65,536 parts of a turn, counter-clockwise from the x axis. */
    readonly aim: number;
    readonly fire: boolean;
}
/** The input that comes closest to these wishes: a direction of length 1 at most, radians. */
export declare function arenaInput(x: number, y: number, angle: number, fire: boolean): ArenaInput;
/** Where a fighter is, and its velocity. */
export interface Fighter {
    readonly at: Vec;
    readonly velocity: Vec;
}
/** One tick of a fighter. */
export declare function stepFighter(map: ArenaMap, fighter: Fighter, input: ArenaInput | undefined): Fighter;
/** Predicts a fighter on a map. */
export declare function fighterPredictor(map: ArenaMap): Predictor<ArenaInput, Fighter>;
/** The configuration of a match, as the welcome has it. */
export interface ArenaConfig {
    readonly map: string;
    readonly width: number;
    readonly height: number;
    readonly score_limit: number;
    readonly time_limit_s: number;
}
export declare function decodeConfig(config: Uint8Array): ArenaConfig;
export declare function encodeInput(input: ArenaInput): Uint8Array;
export declare const WEAPONS: readonly ["blaster", "shotgun", "launcher"];
export type Weapon = (typeof WEAPONS)[number];
export declare const PHASES: readonly ["lobby", "countdown", "live", "podium"];
export type Phase = (typeof PHASES)[number];
export declare const REASONS: readonly ["enough players", "all are ready", "too few players", "fight", "score limit", "time limit", "everybody left", "rematch"];
export type Reason = (typeof REASONS)[number];
export declare const PICKUPS: readonly ["health", "shotgun", "launcher"];
export type Pickup = (typeof PICKUPS)[number];
/** The command that says that a player does not want to wait in the lobby. */
export declare function encodeReady(): Uint8Array;
/** The command that takes another weapon. */
export declare function encodeSwitch(weapon: Weapon): Uint8Array;
export type ArenaEvent = {
    readonly kind: "phase";
    readonly phase: Phase;
    readonly reason: Reason;
} | {
    readonly kind: "kill";
    readonly killer: bigint;
    readonly victim: bigint;
    readonly weapon: Weapon;
} | {
    readonly kind: "respawn";
    readonly player: bigint;
} | {
    readonly kind: "pickup";
    readonly player: bigint;
    readonly pickup: Pickup;
};
/** Reads an event; `undefined` for a kind that is not known here. */
export declare function decodeEvent(kind: string, payload: Uint8Array): ArenaEvent | undefined;
