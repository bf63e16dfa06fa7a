/** What lies over the canvas: phase, scoreboard, kill feed, health, weapons, network, banner. */
import type { ArenaEvent } from "../games/arena.js";
import type { Stats } from "../index.js";
import { type WorldView } from "./world.js";
export declare class Hud {
    private readonly board;
    private readonly banner;
    private bannerTimer;
    private own;
    /** Who plays here; nobody while it is only watched. */
    begin(player: bigint | undefined, name: string): void;
    private name;
    private ink;
    show(world: WorldView): void;
    private showBoard;
    private newRow;
    private showOwn;
    tell(event: ArenaEvent): void;
    private feed;
    showNet(stats: Stats, fps: number): void;
    /** A line that stays until the next one. */
    warn(text: string): void;
    /** A line that goes away by itself. */
    praise(text: string): void;
    calm(): void;
}
