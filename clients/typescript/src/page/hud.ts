/** What lies over the canvas: phase, scoreboard, kill feed, health, weapons, network, banner. */
import type { ArenaEvent, Weapon } from "../games/arena.js";
import type { Stats } from "../index.js";
import { callsign, colour, isBot, type FighterView, type WorldView } from "./world.js";

const PHASE = {
  lobby: "waiting for players",
  countdown: "get ready",
  live: "fight",
  podium: "it is decided",
} as const;
const FEED = 6;
const FEED_MS = 6000;
const ROWS = 10;

function find<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

function say(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export class Hud {
  private readonly board = find<HTMLTableElement>("board").tBodies[0]!;
  private readonly banner = find("banner");
  private bannerTimer = 0;
  private own: { player: bigint; name: string } | undefined;

  /** Who plays here; nobody while it is only watched. */
  begin(player: bigint | undefined, name: string): void {
    this.own = player === undefined ? undefined : { player, name };
    for (const id of ["phase", "board", "net"]) find(id).hidden = false;
    find("own").hidden = player === undefined;
    find("feed").replaceChildren();
  }

  private name(player: bigint): string {
    return player === this.own?.player ? this.own.name : callsign(player);
  }

  private ink(player: bigint): string {
    return player === this.own?.player ? "var(--own)" : colour(player);
  }

  show(world: WorldView): void {
    say(find("phase-name"), PHASE[world.phase]);
    const { seconds } = world;
    const clock = seconds > 0 ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "";
    say(find("phase-clock"), clock);
    this.showBoard(world.fighters);
    const me = world.fighters.find((fighter) => fighter.player === this.own?.player);
    if (me) this.showOwn(me);
  }

  private showBoard(fighters: readonly FighterView[]): void {
    const sorted = [...fighters].sort(
      (a, b) => b.kills - a.kills || a.deaths - b.deaths || (a.player < b.player ? -1 : 1),
    );
    const top = sorted.slice(0, ROWS);
    const me = sorted.find(({ player }) => player === this.own?.player);
    if (me && !top.includes(me)) top[ROWS - 1] = me;
    while (this.board.rows.length > top.length) this.board.deleteRow(-1);
    for (const [index, fighter] of top.entries()) {
      const row = this.board.rows[index] ?? this.newRow();
      row.className = [
        fighter === me ? "own" : "",
        fighter.health > 0 ? "" : "down",
      ].join(" ").trim();
      const [dot, name, kills, deaths] = [...row.cells];
      (dot!.firstElementChild as HTMLElement).style.background = this.ink(fighter.player);
      say(name!, this.name(fighter.player));
      name!.title = isBot(fighter.player) ? "a bot of the house" : "a player";
      say(kills!, String(fighter.kills));
      say(deaths!, String(fighter.deaths));
    }
  }

  private newRow(): HTMLTableRowElement {
    const row = this.board.insertRow();
    for (let cell = 0; cell < 4; cell += 1) row.insertCell();
    row.cells[0]!.append(document.createElement("i"));
    return row;
  }

  private showOwn(me: FighterView): void {
    const health = find("health");
    const [bar, text] = [health.children[0] as HTMLElement, health.children[1] as HTMLElement];
    bar.style.transform = `scaleX(${Math.min(me.health, 100) / 100})`;
    health.classList.toggle("low", me.health <= 35);
    say(text, me.health > 0 ? String(me.health) : "down: back in a moment");
    const ammo: Record<Weapon, number> = { blaster: Infinity, shotgun: me.shells, launcher: me.rockets };
    for (const button of document.querySelectorAll<HTMLButtonElement>("#weapons button")) {
      const weapon = button.dataset["weapon"] as Weapon;
      button.classList.toggle("in-hand", weapon === me.weapon);
      button.disabled = ammo[weapon] === 0;
      say(button.querySelector("em")!, ammo[weapon] === Infinity ? "∞" : String(ammo[weapon]));
    }
  }

  tell(event: ArenaEvent): void {
    if (event.kind === "kill") {
      const who = (player: bigint): HTMLElement => {
        const name = document.createElement("b");
        name.textContent = this.name(player);
        name.style.color = this.ink(player);
        return name;
      };
      const accident = event.killer === event.victim;
      this.feed(
        ...(accident
          ? [who(event.victim), " had an accident"]
          : [who(event.killer), ` ${event.weapon} `, who(event.victim)]),
      );
    } else if (event.kind === "phase") this.feed(event.reason);
  }

  private feed(...parts: (string | HTMLElement)[]): void {
    const feed = find("feed");
    const line = document.createElement("li");
    line.append(...parts);
    feed.append(line);
    while (feed.children.length > FEED) feed.firstElementChild?.remove();
    setTimeout(() => line.classList.add("old"), FEED_MS);
    setTimeout(() => line.remove(), FEED_MS + 700);
  }

  showNet(stats: Stats, fps: number): void {
    const badge = find("net-carrier");
    const names = { webtransport: "WebTransport", websocket: "WebSocket" };
    say(badge, stats.carrier ? names[stats.carrier] : "offline");
    badge.className = `badge ${stats.carrier === "websocket" ? "socket" : stats.carrier ? "" : "none"}`;
    badge.title = stats.node ?? "";
    say(find("net-ping"), `${Math.round(stats.rtt)} ms`);
    say(find("net-loss"), `${(stats.loss * 100).toFixed(stats.loss < 0.095 ? 1 : 0)} % loss`);
    say(find("net-tick"), `tick ${stats.tick}`);
    say(find("net-fps"), `${Math.round(fps)} fps`);
  }

  /** A line that stays until the next one. */
  warn(text: string): void {
    window.clearTimeout(this.bannerTimer);
    this.banner.hidden = false;
    this.banner.className = "";
    say(this.banner.lastElementChild as HTMLElement, text);
  }

  /** A line that goes away by itself. */
  praise(text: string): void {
    this.warn(text);
    this.banner.className = "good";
    this.bannerTimer = window.setTimeout(() => (this.banner.hidden = true), 5000);
  }

  calm(): void {
    this.banner.hidden = true;
  }
}
