/** Draws a match on a canvas. */
import { FIGHTER_RADIUS, type ArenaMap, type Box } from "../games/arena.js";
import { callsign, colour, type Body, type FighterView, type WorldView } from "./world.js";

const OWN = "#4fd1c5";
const TICK_MS = 1000 / 30;
/** Range in metres, rays, half of the spread in radians, ticks between shots. */
const SHOTS = {
  blaster: { range: 28, rays: 1, spread: 0.02, cooldown: 5 },
  shotgun: { range: 14, rays: 7, spread: 0.14, cooldown: 24 },
} as const;
const PICKUP = { health: "#68d391", shotgun: "#f6ad55", launcher: "#fc8181" } as const;
/** A map is not drawn smaller than so many pixels a metre; then the view follows the own fighter. */
const LEAST_SCALE = 17;
/** Pixels that the phase above and the weapons below take. */
const [ABOVE, BELOW] = [56, 94];
const NAME_FONT = "600 11px system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif";

/** What is drawn besides the world. */
export interface Own {
  readonly slot: number | undefined;
  readonly name: string;
  /** Place, predicted. */
  readonly at: Body | undefined;
  readonly angle: number;
}

interface Effect {
  readonly x: number;
  readonly y: number;
  readonly begun: number;
  readonly kind: "burst" | "fall" | "spawn";
  readonly colour: string;
}

function enters({ min, max }: Box, x: number, y: number, wx: number, wy: number): number {
  let [enter, leave] = [0, 1];
  for (const [from, way, low, high] of [[x, wx, min.x, max.x], [y, wy, min.y, max.y]] as const) {
    if (way === 0) {
      if (from < low || from > high) return 1;
      continue;
    }
    const [a, b] = [(low - from) / way, (high - from) / way];
    enter = Math.max(enter, Math.min(a, b));
    leave = Math.min(leave, Math.max(a, b));
  }
  return enter <= leave ? enter : 1;
}

function meets(target: Body, x: number, y: number, wx: number, wy: number): number {
  const [ox, oy] = [x - target.x, y - target.y];
  const towards = -(ox * wx + oy * wy);
  const squared = wx * wx + wy * wy;
  const outside = ox * ox + oy * oy - FIGHTER_RADIUS * FIGHTER_RADIUS;
  const discriminant = towards * towards - squared * outside;
  if (outside <= 0 || towards <= 0 || discriminant < 0) return 1;
  return Math.min(1, (towards - Math.sqrt(discriminant)) / squared);
}

export class Painter {
  private readonly context: CanvasRenderingContext2D;
  private still: HTMLCanvasElement | undefined;
  private stillKey = "";
  private effects: Effect[] = [];
  private rockets = new Map<number, Body>();
  private living = new Map<number, boolean>();
  private firing = new Map<number, number>();
  private flash = new Map<number, { until: number; health: number }>();
  private scale = 20;
  private middle = { x: 0, y: 0 };
  private size = { width: 0, height: 0, ratio: 1 };

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d", { alpha: false })!;
  }

  /** Fits the canvas to its place on the screen, at the screen's own resolution. */
  private fit(map: ArenaMap, eye: Body | undefined): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    const [width, height] = [window.innerWidth, window.innerHeight];
    if (this.size.width !== width || this.size.height !== height || this.size.ratio !== ratio) {
      this.size = { width, height, ratio };
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const wide = { x: map.half.x * 2 + 2, y: map.half.y * 2 + 2 };
    // Room for what lies over the canvas at the right and below.
    const side = width > 1000 ? 226 : 0;
    const fits = Math.min((width - side) / wide.x, (height - ABOVE - BELOW) / wide.y);
    this.scale = Math.max(fits, LEAST_SCALE);
    const follow = (at: number, half: number, room: number): number => {
      const slack = half + 1.5 - room / 2 / this.scale;
      return slack <= 0 ? 0 : Math.min(Math.max(at, -slack), slack);
    };
    this.middle = {
      x: follow(eye?.x ?? 0, map.half.x, width - side) + side / 2 / this.scale,
      y: follow(eye?.y ?? 0, map.half.y, height - ABOVE - BELOW) -
        (BELOW - ABOVE) / 2 / this.scale,
    };
  }

  /** A point of the screen, in metres. */
  toWorld(x: number, y: number): { x: number; y: number } {
    return {
      x: (x - this.size.width / 2) / this.scale + this.middle.x,
      y: (this.size.height / 2 - y) / this.scale + this.middle.y,
    };
  }

  draw(map: ArenaMap, world: WorldView | undefined, own: Own, now: number): void {
    const { context } = this;
    const me = world?.fighters.find((fighter) => fighter.slot === own.slot);
    this.fit(map, own.at ?? me);
    const { width, height, ratio } = this.size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#0b0e14";
    context.fillRect(0, 0, width, height);
    const s = this.scale * ratio;
    context.setTransform(
      s, 0, 0, -s,
      (width / 2) * ratio - this.middle.x * s,
      (height / 2) * ratio + this.middle.y * s,
    );
    this.drawMap(map);
    if (!world) return;
    const fighters = world.fighters.map((fighter) =>
      fighter.slot === own.slot && own.at && fighter.health > 0
        ? { ...fighter, x: own.at.x, y: own.at.y, angle: own.angle }
        : fighter,
    );
    this.notice(world, own, now);
    for (const pickup of world.pickups) this.drawPickup(pickup, PICKUP[pickup.kind], now);
    for (const drone of world.drones) this.disc(drone, 0.4, "#718096");
    if (world.phase === "live") {
      for (const fighter of fighters) this.drawShots(map, world, fighters, fighter, own);
    }
    for (const rocket of world.rockets) this.drawRocket(rocket);
    for (const fighter of fighters) this.drawFighter(fighter, own, now);
    this.drawEffects(now);
    for (const fighter of fighters) if (fighter.health > 0) this.drawName(fighter, own);
  }

  /** Everything that stands still, kept as a picture. */
  private drawMap(map: ArenaMap): void {
    const { context } = this;
    const s = this.scale * this.size.ratio;
    const key = `${s} ${map.half.x} ${map.half.y} ${map.walls.length}`;
    const margin = 1;
    const [w, h] = [map.half.x * 2 + 2 * margin, map.half.y * 2 + 2 * margin];
    if (key !== this.stillKey || !this.still) {
      this.stillKey = key;
      this.still = document.createElement("canvas");
      this.still.width = Math.ceil(w * s);
      this.still.height = Math.ceil(h * s);
      const pen = this.still.getContext("2d")!;
      pen.setTransform(s, 0, 0, -s, (w / 2) * s, (h / 2) * s);
      paintMap(pen, map, s);
    }
    context.save();
    context.scale(1, -1);
    context.drawImage(this.still, -w / 2, -h / 2, this.still.width / s, this.still.height / s);
    context.restore();
  }

  /** Finds what happened between two frames, and begins effects for it. */
  private notice(world: WorldView, own: Own, now: number): void {
    const rockets = new Map(world.rockets.map((rocket) => [rocket.slot, rocket as Body]));
    for (const [slot, at] of this.rockets) {
      if (!rockets.has(slot)) this.begin("burst", at, "#f6ad55", now);
    }
    this.rockets = rockets;
    for (const fighter of world.fighters) {
      const alive = fighter.health > 0;
      const was = this.living.get(fighter.slot);
      const ink = fighter.slot === own.slot ? OWN : colour(fighter.player);
      if (was === true && !alive) this.begin("fall", fighter, ink, now);
      if (was === false && alive) this.begin("spawn", fighter, ink, now);
      this.living.set(fighter.slot, alive);
      if (!fighter.firing || !alive) this.firing.delete(fighter.slot);
      else if (!this.firing.has(fighter.slot)) this.firing.set(fighter.slot, world.tick);
      const known = this.flash.get(fighter.slot);
      const hit = known !== undefined && fighter.health < known.health;
      this.flash.set(fighter.slot, { until: hit ? now + 110 : (known?.until ?? 0), health: fighter.health });
    }
    this.effects = this.effects.filter((effect) => now - effect.begun < 600);
  }

  private begin(kind: Effect["kind"], { x, y }: Body, ink: string, now: number): void {
    this.effects.push({ kind, x, y, colour: ink, begun: now });
    if (this.effects.length > 64) this.effects.shift();
  }

  private disc({ x, y }: { x: number; y: number }, radius: number, ink: string): void {
    const { context } = this;
    context.fillStyle = ink;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }

  private drawPickup({ x, y }: Body, ink: string, now: number): void {
    const { context } = this;
    const r = 0.42 + 0.04 * Math.sin(now / 400 + x);
    context.save();
    context.translate(x, y);
    context.globalAlpha = 0.16;
    this.disc({ x: 0, y: 0 }, 0.8, ink);
    context.globalAlpha = 1;
    context.rotate(Math.PI / 4);
    context.strokeStyle = ink;
    context.lineWidth = 0.13;
    context.strokeRect(-r / 1.2, -r / 1.2, (2 * r) / 1.2, (2 * r) / 1.2);
    context.rotate(-Math.PI / 4);
    context.fillStyle = ink;
    context.fillRect(-0.2, -0.06, 0.4, 0.12);
    if (ink === PICKUP.health) context.fillRect(-0.06, -0.2, 0.12, 0.4);
    context.restore();
  }

  private drawShots(
    map: ArenaMap,
    world: WorldView,
    fighters: readonly FighterView[],
    shooter: FighterView,
    own: Own,
  ): void {
    const since = this.firing.get(shooter.slot);
    if (since === undefined || shooter.health <= 0 || shooter.weapon === "launcher") return;
    const { range, rays, spread, cooldown } = SHOTS[shooter.weapon];
    const ticks = Math.max(0, world.tick - since);
    const age = (ticks % cooldown) / 3;
    if (age >= 1) return;
    const { context } = this;
    const shot = Math.floor(ticks / cooldown);
    context.strokeStyle = shooter.slot === own.slot ? OWN : colour(shooter.player);
    context.lineCap = "round";
    for (let ray = 0; ray < rays; ray += 1) {
      const noise = Math.sin((shot + 1) * 12.9898 + ray * 78.233) * 43758.5453;
      const angle = shooter.angle + (noise - Math.floor(noise) - 0.5) * 2 * spread;
      const [wx, wy] = [Math.cos(angle) * range, Math.sin(angle) * range];
      const part = reach(map, fighters, shooter, wx, wy);
      const from = Math.min(part, 0.75 / range);
      const [x, y] = [shooter.x + wx * part, shooter.y + wy * part];
      context.globalAlpha = (1 - age) * 0.85;
      context.lineWidth = 0.09;
      context.beginPath();
      context.moveTo(shooter.x + wx * from, shooter.y + wy * from);
      context.lineTo(x, y);
      context.stroke();
      if (part < 1) this.disc({ x, y }, 0.16 * (1 - age) + 0.04, "#fff5d6");
    }
    context.globalAlpha = 1;
  }

  private drawRocket({ x, y, vx, vy }: Body & { vx: number; vy: number }): void {
    const { context } = this;
    const speed = Math.hypot(vx, vy) || 1;
    const [dx, dy] = [vx / speed, vy / speed];
    const trail = context.createLinearGradient(x, y, x - dx * 2.6, y - dy * 2.6);
    trail.addColorStop(0, "rgb(246 173 85 / 85%)");
    trail.addColorStop(1, "rgb(246 173 85 / 0%)");
    context.strokeStyle = trail;
    context.lineWidth = 0.26;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x - dx * 2.6, y - dy * 2.6);
    context.stroke();
    this.disc({ x, y }, 0.21, "#fff1d6");
  }

  private drawFighter(fighter: FighterView, own: Own, now: number): void {
    const { context } = this;
    const mine = fighter.slot === own.slot;
    const ink = mine ? OWN : colour(fighter.player);
    const { x, y, angle } = fighter;
    if (fighter.health <= 0) {
      context.globalAlpha = 0.22;
      context.strokeStyle = ink;
      context.lineWidth = 0.1;
      context.beginPath();
      context.arc(x, y, FIGHTER_RADIUS * 0.8, 0, 2 * Math.PI);
      context.stroke();
      context.globalAlpha = 1;
      return;
    }
    context.fillStyle = "rgb(0 0 0 / 35%)";
    context.beginPath();
    context.ellipse(x + 0.07, y - 0.11, FIGHTER_RADIUS * 1.05, FIGHTER_RADIUS, 0, 0, 2 * Math.PI);
    context.fill();
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    context.strokeStyle = "#d7dee9";
    context.lineCap = "butt";
    context.lineWidth = fighter.weapon === "blaster" ? 0.2 : 0.3;
    const barrel = fighter.weapon === "launcher" ? 0.95 : 0.82;
    context.beginPath();
    context.moveTo(x + cos * 0.3, y + sin * 0.3);
    context.lineTo(x + cos * barrel, y + sin * barrel);
    context.stroke();
    const hurt = (this.flash.get(fighter.slot)?.until ?? 0) > now;
    this.disc(fighter, FIGHTER_RADIUS, hurt ? "#ffffff" : ink);
    this.disc(fighter, FIGHTER_RADIUS * 0.56, "rgb(9 12 18 / 55%)");
    if (mine) {
      context.strokeStyle = "rgb(79 209 197 / 35%)";
      context.lineWidth = 0.08;
      context.beginPath();
      context.arc(x, y, FIGHTER_RADIUS + 0.2, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  private drawName(fighter: FighterView, own: Own): void {
    const { context } = this;
    const { ratio, width, height } = this.size;
    const [x, y] = [
      (fighter.x - this.middle.x) * this.scale + width / 2,
      height / 2 - (fighter.y - this.middle.y) * this.scale,
    ];
    const mine = fighter.slot === own.slot;
    context.save();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const top = y - this.scale * FIGHTER_RADIUS - 9;
    const wide = 30;
    context.fillStyle = "rgb(0 0 0 / 55%)";
    context.fillRect(x - wide / 2 - 1, top - 1, wide + 2, 5);
    context.fillStyle = fighter.health > 35 ? (mine ? OWN : "#a0aec0") : "#f56565";
    context.fillRect(x - wide / 2, top, (wide * Math.min(fighter.health, 100)) / 100, 3);
    context.font = NAME_FONT;
    context.textAlign = "center";
    context.lineWidth = 3;
    context.strokeStyle = "rgb(11 14 20 / 80%)";
    const name = mine ? own.name : callsign(fighter.player);
    context.strokeText(name, x, top - 5);
    context.fillStyle = mine ? OWN : "#cbd5e0";
    context.fillText(name, x, top - 5);
    context.restore();
  }

  private drawEffects(now: number): void {
    const { context } = this;
    for (const { x, y, begun, kind, colour: ink } of this.effects) {
      const age = (now - begun) / (kind === "burst" ? 420 : 600);
      if (age >= 1) continue;
      const grown = 1 - (1 - age) ** 3;
      const radius = kind === "burst" ? 2.6 * grown : kind === "fall" ? 1.6 * grown : 1.8 * (1 - grown);
      context.globalAlpha = (1 - age) * (kind === "burst" ? 0.5 : 0.8);
      if (kind === "burst") this.disc({ x, y }, radius, "rgb(246 173 85 / 45%)");
      context.strokeStyle = ink;
      context.lineWidth = 0.14 * (1 - age) + 0.03;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
      for (let spark = 0; kind === "fall" && spark < 9; spark += 1) {
        const angle = spark * 0.7 + x;
        this.disc(
          { x: x + Math.cos(angle) * radius, y: y + Math.sin(angle) * radius },
          0.1 * (1 - age),
          ink,
        );
      }
    }
    context.globalAlpha = 1;
  }

  /** The sticks of two thumbs. */
  drawSticks(sticks: readonly { from: { x: number; y: number }; to: { x: number; y: number } }[]): void {
    const { context } = this;
    const { ratio } = this.size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const { from, to } of sticks) {
      context.strokeStyle = "rgb(232 237 244 / 22%)";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(from.x, from.y, 48, 0, 2 * Math.PI);
      context.stroke();
      const way = Math.hypot(to.x - from.x, to.y - from.y);
      const part = Math.min(1, 48 / (way || 1));
      const at = { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
      this.disc(at, 20, "rgb(232 237 244 / 32%)");
    }
  }

  /** How long a tick is, for callers that animate. */
  static readonly tickMs = TICK_MS;
}

function reach(
  map: ArenaMap,
  fighters: readonly FighterView[],
  shooter: FighterView,
  wx: number,
  wy: number,
): number {
  const { x, y } = shooter;
  const { half } = map;
  let part = 1;
  if (wx !== 0) part = Math.min(part, ((wx > 0 ? half.x : -half.x) - x) / wx);
  if (wy !== 0) part = Math.min(part, ((wy > 0 ? half.y : -half.y) - y) / wy);
  for (const wall of map.walls) part = Math.min(part, enters(wall, x, y, wx, wy));
  for (const other of fighters) {
    if (other.slot !== shooter.slot && other.health > 0) part = Math.min(part, meets(other, x, y, wx, wy));
  }
  return Math.max(0, part);
}

function paintMap(pen: CanvasRenderingContext2D, { half, walls }: ArenaMap, s: number): void {
  const hair = 1 / s;
  pen.fillStyle = "#111722";
  pen.fillRect(-half.x, -half.y, 2 * half.x, 2 * half.y);
  pen.strokeStyle = "rgb(255 255 255 / 3.5%)";
  pen.lineWidth = Math.max(hair, 0.03);
  pen.beginPath();
  for (let x = Math.ceil(-half.x / 4) * 4; x < half.x; x += 4) {
    pen.moveTo(x, -half.y);
    pen.lineTo(x, half.y);
  }
  for (let y = Math.ceil(-half.y / 4) * 4; y < half.y; y += 4) {
    pen.moveTo(-half.x, y);
    pen.lineTo(half.x, y);
  }
  pen.stroke();
  pen.strokeStyle = "#33415a";
  pen.lineWidth = 0.16;
  pen.strokeRect(-half.x - 0.08, -half.y - 0.08, 2 * half.x + 0.16, 2 * half.y + 0.16);
  for (const { min, max } of walls) {
    const [w, h] = [max.x - min.x, max.y - min.y];
    pen.fillStyle = "rgb(0 0 0 / 30%)";
    pen.fillRect(min.x + 0.14, min.y - 0.2, w, h);
    pen.fillStyle = "#29354a";
    pen.beginPath();
    pen.roundRect(min.x, min.y, w, h, 0.18);
    pen.fill();
    pen.strokeStyle = "#40506c";
    pen.lineWidth = 0.07;
    pen.stroke();
  }
}
