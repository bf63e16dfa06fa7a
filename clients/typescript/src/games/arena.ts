/**
 * The arena: its payloads (docs/PROTOCOL.md, section 11), its map, and how a fighter moves, so that
 * a client predicts its own. Every number is an `f32` as on the server: `Math.fround` around each
 * operation gives the same bits.
 */
import { ProtocolError } from "../error.js";
import type { Predictor } from "../predict.js";
import { Reader, Writer } from "../wire.js";

const f = Math.fround;

export interface Vec {
  readonly x: number;
  readonly y: number;
}

const vec = (x: number, y: number): Vec => ({ x: f(x), y: f(y) });
const ZERO: Vec = { x: 0, y: 0 };
const add = (a: Vec, b: Vec): Vec => vec(f(a.x + b.x), f(a.y + b.y));
const sub = (a: Vec, b: Vec): Vec => vec(f(a.x - b.x), f(a.y - b.y));
const times = (a: Vec, by: number): Vec => vec(f(a.x * by), f(a.y * by));
const dot = (a: Vec, b: Vec): number => f(f(a.x * b.x) + f(a.y * b.y));
const lengthOf = (a: Vec): number => f(Math.sqrt(dot(a, a)));
const isZero = (a: Vec): boolean => a.x === 0 && a.y === 0;

function clamped(a: Vec, most: number): Vec {
  const length = lengthOf(a);
  return length > most ? times(a, f(most / length)) : a;
}

function normalised(a: Vec): Vec {
  const length = lengthOf(a);
  return length > 0 ? times(a, f(1 / length)) : ZERO;
}

const clamp = (value: number, low: number, high: number): number =>
  Math.min(Math.max(value, low), high);

/** Ticks per second. */
export const TICK_RATE = 30;
const TICK = f(1 / 30);
/** Radius of a fighter, metres. */
export const FIGHTER_RADIUS = 0.5;
const FIGHTER_SPEED = 7;
const FIGHTER_ACCELERATION = 45;
const VELOCITY_STEP = 0.125;

/** A box with sides along the axes. */
export interface Box {
  readonly min: Vec;
  readonly max: Vec;
}

/** Where a circle has to go so that it no longer overlaps the box. */
function pushOut({ min, max }: Box, centre: Vec, radius: number): Vec {
  const closest = vec(clamp(centre.x, min.x, max.x), clamp(centre.y, min.y, max.y));
  const away = sub(centre, closest);
  const squared = dot(away, away);
  if (squared >= f(radius * radius)) return ZERO;
  if (squared > 0) {
    const distance = f(Math.sqrt(squared));
    return times(away, f(f(radius - distance) / distance));
  }
  const [left, right] = [f(centre.x - min.x), f(max.x - centre.x)];
  const [down, up] = [f(centre.y - min.y), f(max.y - centre.y)];
  const nearest = Math.min(left, right, down, up);
  if (nearest === left) return vec(f(-left - radius), 0);
  if (nearest === right) return vec(f(right + radius), 0);
  return nearest === down ? vec(0, f(-down - radius)) : vec(0, f(up + radius));
}

/** What stands still in a match. The origin is the middle. */
export interface ArenaMap {
  /** Half of width and height. */
  readonly half: Vec;
  readonly walls: readonly Box[];
}

type Block = readonly [number, number, number, number];

/** Walls: centre and size, as parts of half and of whole width and height. */
const MAPS: Readonly<Record<string, readonly Block[]>> = {
  pillars: [
    [0, 0, 0.1, 0.14],
    [-0.5, 0.5, 0.08, 0.16],
    [0.5, 0.5, 0.08, 0.16],
    [-0.5, -0.5, 0.08, 0.16],
    [0.5, -0.5, 0.08, 0.16],
    [0, 0.62, 0.16, 0.05],
    [0, -0.62, 0.16, 0.05],
    [-0.76, 0, 0.05, 0.12],
    [0.76, 0, 0.05, 0.12],
  ],
  crossing: [
    [-0.55, 0, 0.22, 0.05],
    [0.55, 0, 0.22, 0.05],
    [0, -0.55, 0.05, 0.22],
    [0, 0.55, 0.05, 0.22],
    [-0.5, 0.6, 0.1, 0.06],
    [0.5, 0.6, 0.1, 0.06],
    [-0.5, -0.6, 0.1, 0.06],
    [0.5, -0.6, 0.1, 0.06],
  ],
  open: [],
};

/** The map of a name and a size in metres; an open field for a name that is none. */
export function arenaMap(name: string, width: number, height: number): ArenaMap {
  const [w, h] = [f(width), f(height)];
  const half = vec(f(w / 2), f(h / 2));
  const walls = (MAPS[name] ?? []).map(([x, y, wide, high]): Box => {
    const centre = vec(f(f(x) * half.x), f(f(y) * half.y));
    const size = vec(f(f(f(wide) * w) / 2), f(f(f(high) * h) / 2));
    return { min: sub(centre, size), max: add(centre, size) };
  });
  return { half, walls };
}

/** Takes a circle out of walls and back over the edge, and the velocity that went in. */
function confine(map: ArenaMap, centre: Vec, velocity: Vec, radius: number): [Vec, Vec] {
  const stop = (push: Vec): void => {
    const normal = normalised(push);
    const inwards = dot(velocity, normal);
    if (inwards < 0) velocity = sub(velocity, times(normal, inwards));
  };
  for (const wall of map.walls) {
    const push = pushOut(wall, centre, radius);
    if (isZero(push)) continue;
    centre = add(centre, push);
    stop(push);
  }
  const limit = sub(map.half, vec(radius, radius));
  const inside = vec(clamp(centre.x, -limit.x, limit.x), clamp(centre.y, -limit.y, limit.y));
  const push = sub(inside, centre);
  if (!isZero(push)) {
    centre = inside;
    stop(push);
  }
  return [centre, velocity];
}

function snap(velocity: Vec): Vec {
  const part = (v: number): number => f(Math.floor(f(f(v / VELOCITY_STEP) + 0.5)) * VELOCITY_STEP);
  return vec(part(velocity.x), part(velocity.y));
}

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
export function arenaInput(x: number, y: number, angle: number, fire: boolean): ArenaInput {
  const part = (v: number): number => clamp(Math.round(v * 127), -127, 127);
  const aim = Math.round((angle / (2 * Math.PI)) * 65_536) & 0xffff;
  return { right: part(x), up: part(y), aim, fire };
}

/** Where a fighter is, and its velocity. */
export interface Fighter {
  readonly at: Vec;
  readonly velocity: Vec;
}

/** Where to go, at most of length 1 whatever was sent. */
function directionOf(input: ArenaInput): Vec {
  return clamped(vec(f(input.right / 127), f(input.up / 127)), 1);
}

/** One tick of a fighter. */
export function stepFighter(map: ArenaMap, fighter: Fighter, input: ArenaInput | undefined): Fighter {
  const wanted = input ? times(directionOf(input), FIGHTER_SPEED) : ZERO;
  const change = clamped(sub(wanted, fighter.velocity), f(FIGHTER_ACCELERATION * TICK));
  const speed = snap(add(fighter.velocity, change));
  const moved = add(fighter.at, times(speed, TICK));
  const [at, stopped] = confine(map, moved, speed, FIGHTER_RADIUS);
  const same = stopped.x === speed.x && stopped.y === speed.y;
  return { at, velocity: same ? speed : snap(stopped) };
}

/** Predicts a fighter on a map. */
export function fighterPredictor(map: ArenaMap): Predictor<ArenaInput, Fighter> {
  return { step: (fighter, input) => stepFighter(map, fighter, input) };
}

/** The configuration of a match, as the welcome has it. */
export interface ArenaConfig {
  readonly map: string;
  readonly width: number;
  readonly height: number;
  readonly score_limit: number;
  readonly time_limit_s: number;
}

export function decodeConfig(config: Uint8Array): ArenaConfig {
  try {
    return JSON.parse(new TextDecoder().decode(config)) as ArenaConfig;
  } catch {
    throw new ProtocolError("the arena's configuration is no JSON");
  }
}

export function encodeInput(input: ArenaInput): Uint8Array {
  return new Writer()
    .u8(input.right & 0xff)
    .u8(input.up & 0xff)
    .u16le(input.aim)
    .bool(input.fire)
    .finish();
}

export const WEAPONS = ["blaster", "shotgun", "launcher"] as const;
export type Weapon = (typeof WEAPONS)[number];
export const PHASES = ["lobby", "countdown", "live", "podium"] as const;
export type Phase = (typeof PHASES)[number];
export const REASONS = [
  "enough players",
  "all are ready",
  "too few players",
  "fight",
  "score limit",
  "time limit",
  "everybody left",
  "rematch",
] as const;
export type Reason = (typeof REASONS)[number];
export const PICKUPS = ["health", "shotgun", "launcher"] as const;
export type Pickup = (typeof PICKUPS)[number];

/** The command that says that a player does not want to wait in the lobby. */
export function encodeReady(): Uint8Array {
  return Uint8Array.of(0);
}

/** The command that takes another weapon. */
export function encodeSwitch(weapon: Weapon): Uint8Array {
  return Uint8Array.of(1, WEAPONS.indexOf(weapon));
}

export type ArenaEvent =
  | { readonly kind: "phase"; readonly phase: Phase; readonly reason: Reason }
  | {
      readonly kind: "kill";
      readonly killer: bigint;
      readonly victim: bigint;
      readonly weapon: Weapon;
    }
  | { readonly kind: "respawn"; readonly player: bigint }
  | { readonly kind: "pickup"; readonly player: bigint; readonly pickup: Pickup };

function variant<T>(reader: Reader, names: readonly T[]): T {
  const name = names[reader.u8()];
  if (name === undefined) throw new ProtocolError("an event of another version of the arena");
  return name;
}

/** Reads an event; `undefined` for a kind that is not known here. */
export function decodeEvent(kind: string, payload: Uint8Array): ArenaEvent | undefined {
  const reader = new Reader(payload);
  const read = (): ArenaEvent | undefined => {
    switch (kind) {
      case "phase":
        return { kind, phase: variant(reader, PHASES), reason: variant(reader, REASONS) };
      case "kill": {
        const [killer, victim] = [reader.u64le(), reader.u64le()];
        return { kind, killer, victim, weapon: variant(reader, WEAPONS) };
      }
      case "respawn":
        return { kind, player: reader.u64le() };
      case "pickup":
        return { kind, player: reader.u64le(), pickup: variant(reader, PICKUPS) };
      default:
        return undefined;
    }
  };
  const event = read();
  if (event !== undefined) reader.end();
  return event;
}
