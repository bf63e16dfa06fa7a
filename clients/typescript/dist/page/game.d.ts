/** A match on the page: the session, what the player does, and what is drawn each frame. */
import { encodeSwitch } from "../games/arena.js";
import { type CarrierKind, type Session } from "../index.js";
import { Controls } from "./controls.js";
import { Painter } from "./draw.js";
import { Hud } from "./hud.js";
/** What tests read off the page. */
export interface Metrics {
    fps: number;
    frames: number;
    /** From a key to the first frame that shows what it does, in ticks. */
    photonTicks: number[];
    /** From a key to the snapshot that confirms it, in ticks. */
    confirmTicks: number[];
    /** How far predictions were off, in metres. */
    errors: number[];
    /** Outages: from the last that the old connection said to the first new snapshot, in ms. */
    gaps: number[];
    carriers: CarrierKind[];
}
export interface GameOptions {
    readonly edge: string;
    readonly ticket: string;
    readonly match: string | undefined;
    readonly name: string;
    readonly watches: boolean;
    readonly carriers: readonly CarrierKind[] | undefined;
    readonly ended: (words: string) => void;
}
/** Draws empty fields behind the form, and matches. */
export declare class Game {
    private readonly painter;
    private readonly controls;
    private readonly hud;
    readonly metrics: Metrics;
    session: Session | undefined;
    private options;
    private map;
    private eyes;
    private fields;
    private prediction;
    private avatar;
    private alive;
    private appliedSeq;
    private lastTarget;
    private angle;
    private offset;
    private drawn;
    private lastFrame;
    private hudAt;
    private bannerTimer;
    private away;
    private heardAt;
    private press;
    private confirming;
    constructor(painter: Painter, controls: Controls, hud: Hud);
    private command;
    switchTo(weapon: Parameters<typeof encodeSwitch>[0]): void;
    begin(options: GameOptions): void;
    private welcomed;
    private lost;
    private back;
    private snapshot;
    /** Where the own fighter is now, between two ticks of its inputs. */
    private place;
    private act;
    private measure;
    private aim;
    private frame;
    private ownView;
    private over;
}
