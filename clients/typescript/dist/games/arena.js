/**
 * The arena: its payloads (docs/PROTOCOL.md, section 11), its map, and how a fighter moves, so that
 * a client predicts its own. Every number is an `f32` as on the server: `Math.fround` around each
 * operation gives the same bits.
 */
import { ProtocolError } from "../error.js";
import { Reader, Writer } from "../wire.js";
const f = Math.fround;
const vec = (x, y) => ({ x: f(x), y: f(y) });
const ZERO = { x: 0, y: 0 };
const add = (a, b) => vec(f(a.x + b.x), f(a.y + b.y));
const sub = (a, b) => vec(f(a.x - b.x), f(a.y - b.y));
const times = (a, by) => vec(f(a.x * by), f(a.y * by));
const dot = (a, b) => f(f(a.x * b.x) + f(a.y * b.y));
const lengthOf = (a) => f(Math.sqrt(dot(a, a)));
const isZero = (a) => a.x === 0 && a.y === 0;
function clamped(a, most) {
    const length = lengthOf(a);
    return length > most ? times(a, f(most / length)) : a;
}
function normalised(a) {
    const length = lengthOf(a);
    return length > 0 ? times(a, f(1 / length)) : ZERO;
}
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
/** Ticks per second. */
export const TICK_RATE = 30;
const TICK = f(1 / 30);
/** Radius of a fighter, metres. */
export const FIGHTER_RADIUS = 0.5;
const FIGHTER_SPEED = 7;
const FIGHTER_ACCELERATION = 45;
const VELOCITY_STEP = 0.125;
/** Where a circle has to go so that it no longer overlaps the box. */
function pushOut({ min, max }, centre, radius) {
    const closest = vec(clamp(centre.x, min.x, max.x), clamp(centre.y, min.y, max.y));
    const away = sub(centre, closest);
    const squared = dot(away, away);
    if (squared >= f(radius * radius))
        return ZERO;
    if (squared > 0) {
        const distance = f(Math.sqrt(squared));
        return times(away, f(f(radius - distance) / distance));
    }
    const [left, right] = [f(centre.x - min.x), f(max.x - centre.x)];
    const [down, up] = [f(centre.y - min.y), f(max.y - centre.y)];
    const nearest = Math.min(left, right, down, up);
    if (nearest === left)
        return vec(f(-left - radius), 0);
    if (nearest === right)
        return vec(f(right + radius), 0);
    return nearest === down ? vec(0, f(-down - radius)) : vec(0, f(up + radius));
}
/** Walls: centre and size, as parts of half and of whole width and height. */
const MAPS = {
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
export function arenaMap(name, width, height) {
    const [w, h] = [f(width), f(height)];
    const half = vec(f(w / 2), f(h / 2));
    const walls = (MAPS[name] ?? []).map(([x, y, wide, high]) => {
        const centre = vec(f(f(x) * half.x), f(f(y) * half.y));
        const size = vec(f(f(f(wide) * w) / 2), f(f(f(high) * h) / 2));
        return { min: sub(centre, size), max: add(centre, size) };
    });
    return { half, walls };
}
/** Takes a circle out of walls and back over the edge, and the velocity that went in. */
function confine(map, centre, velocity, radius) {
    const stop = (push) => {
        const normal = normalised(push);
        const inwards = dot(velocity, normal);
        if (inwards < 0)
            velocity = sub(velocity, times(normal, inwards));
    };
    for (const wall of map.walls) {
        const push = pushOut(wall, centre, radius);
        if (isZero(push))
            continue;
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
function snap(velocity) {
    const part = (v) => f(Math.floor(f(f(v / VELOCITY_STEP) + 0.5)) * VELOCITY_STEP);
    return vec(part(velocity.x), part(velocity.y));
}
/** The input that comes closest to these wishes: a direction of length 1 at most, radians. */
export function arenaInput(x, y, angle, fire) {
    const part = (v) => clamp(Math.round(v * 127), -127, 127);
    const aim = Math.round((angle / (2 * Math.PI)) * 65_536) & 0xffff;
    return { right: part(x), up: part(y), aim, fire };
}
/** Where to go, at most of length 1 whatever was sent. */
function directionOf(input) {
    return clamped(vec(f(input.right / 127), f(input.up / 127)), 1);
}
/** One tick of a fighter. */
export function stepFighter(map, fighter, input) {
    const wanted = input ? times(directionOf(input), FIGHTER_SPEED) : ZERO;
    const change = clamped(sub(wanted, fighter.velocity), f(FIGHTER_ACCELERATION * TICK));
    const speed = snap(add(fighter.velocity, change));
    const moved = add(fighter.at, times(speed, TICK));
    const [at, stopped] = confine(map, moved, speed, FIGHTER_RADIUS);
    const same = stopped.x === speed.x && stopped.y === speed.y;
    return { at, velocity: same ? speed : snap(stopped) };
}
/** Predicts a fighter on a map. */
export function fighterPredictor(map) {
    return { step: (fighter, input) => stepFighter(map, fighter, input) };
}
export function decodeConfig(config) {
    try {
        return JSON.parse(new TextDecoder().decode(config));
    }
    catch {
        throw new ProtocolError("the arena's configuration is no JSON");
    }
}
export function encodeInput(input) {
    return new Writer()
        .u8(input.right & 0xff)
        .u8(input.up & 0xff)
        .u16le(input.aim)
        .bool(input.fire)
        .finish();
}
export const WEAPONS = ["blaster", "shotgun", "launcher"];
export const PHASES = ["lobby", "countdown", "live", "podium"];
export const REASONS = [
    "enough players",
    "all are ready",
    "too few players",
    "fight",
    "score limit",
    "time limit",
    "everybody left",
    "rematch",
];
export const PICKUPS = ["health", "shotgun", "launcher"];
/** The command that says that a player does not want to wait in the lobby. */
export function encodeReady() {
    return Uint8Array.of(0);
}
/** The command that takes another weapon. */
export function encodeSwitch(weapon) {
    return Uint8Array.of(1, WEAPONS.indexOf(weapon));
}
function variant(reader, names) {
    const name = names[reader.u8()];
    if (name === undefined)
        throw new ProtocolError("an event of another version of the arena");
    return name;
}
/** Reads an event; `undefined` for a kind that is not known here. */
export function decodeEvent(kind, payload) {
    const reader = new Reader(payload);
    const read = () => {
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
    if (event !== undefined)
        reader.end();
    return event;
}
