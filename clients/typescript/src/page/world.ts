/** A match of the arena as the page draws it: of a scene's entities, what is where. */
import { PHASES, PICKUPS, WEAPONS, type Phase, type Pickup, type Weapon } from "../games/arena.js";
import { arenaEntities, type ArenaEntity } from "../games/arena.schema.js";
import { columnOf, type Scene, type Schema, type Thing } from "../index.js";

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
  readonly pickups: readonly (Body & { readonly kind: Pickup })[];
  readonly phase: Phase;
  /** Seconds until the phase ends; 0 if nothing is set. */
  readonly seconds: number;
}

const [FIGHTER, DRONE, ROCKET] = [0, 1, 2];

/** What a schema's rows say of a fighter, before they are quantities: columns. */
export interface Place {
  readonly x: number;
  readonly y: number;
  readonly vx: number;
  readonly vy: number;
  readonly health: number;
}

/** Reads matches of the arena out of scenes. */
export class Eyes {
  /** For whoever reads rows. */
  readonly place: Place;
  private readonly read: (thing: Thing) => ArenaEntity;

  constructor(schema: Schema) {
    const at = (component: string, field: string): number =>
      columnOf(schema, `arena.${component}`, field);
    this.read = arenaEntities(schema);
    this.place = {
      x: at("position", "x"),
      y: at("position", "y"),
      vx: at("velocity", "x"),
      vy: at("velocity", "y"),
      health: at("health", "points"),
    };
  }

  see(scene: Scene): WorldView {
    const fighters: FighterView[] = [];
    const drones: Body[] = [];
    const rockets: RocketView[] = [];
    const pickups: (Body & { kind: Pickup })[] = [];
    let [phase, seconds]: [Phase, number] = ["live", 0];
    for (const entity of scene.things.map(this.read)) {
      const clock = entity["arena.clock"];
      if (clock) [phase, seconds] = [PHASES[clock.phase] ?? "live", clock.seconds];
      const at = entity["arena.position"];
      if (!at) continue;
      const body = { slot: entity.slot, x: at.x, y: at.y };
      const [kind, pickup] = [entity["arena.body"]?.kind, entity["arena.pickup"]];
      const [health, velocity] = [entity["arena.health"], entity["arena.velocity"]];
      if (kind === FIGHTER) {
        const view = fighter(body, entity);
        if (view) fighters.push(view);
      } else if (kind === DRONE) {
        if (health && health.points > 0) drones.push(body);
      } else if (kind === ROCKET && velocity) {
        rockets.push({ ...body, vx: velocity.x, vy: velocity.y });
      } else if (pickup?.there) {
        pickups.push({ ...body, kind: PICKUPS[pickup.kind] ?? "health" });
      }
    }
    return { tick: scene.tick, fighters, drones, rockets, pickups, phase, seconds };
  }
}

function fighter(body: Body, entity: ArenaEntity): FighterView | undefined {
  const [who, aim] = [entity["arena.fighter"], entity["arena.aim"]];
  const [arms, score] = [entity["arena.arms"], entity["arena.score"]];
  const health = entity["arena.health"];
  if (!who || !aim || !arms || !score || !health) return undefined;
  return {
    ...body,
    player: (BigInt(who.player_high) << 32n) | BigInt(who.player_low),
    angle: aim.angle,
    firing: aim.firing,
    health: health.points,
    weapon: WEAPONS[arms.weapon] ?? "blaster",
    shells: arms.shells,
    rockets: arms.rockets,
    kills: score.kills,
    deaths: score.deaths,
  };
}

const FIRST = ["Amber", "Brisk", "Cobalt", "Dusky", "Ember", "Fleet", "Grand", "Hazel", "Ivory", "Jolly",
  "Keen", "Lunar", "Misty", "Noble", "Olive", "Polar"];
const SECOND = ["Fox", "Heron", "Lynx", "Otter", "Raven", "Stoat", "Wolf", "Crane", "Viper", "Bison",
  "Gecko", "Moth", "Puma", "Wren", "Shark", "Toad"];
const NODES_OWN = 1n << 62n;

function mixed(player: bigint): number {
  let z = Number((player ^ (player >> 31n)) & 0xffff_ffffn);
  z = Math.imul(z ^ (z >>> 16), 0x85eb_ca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2_ae35);
  return (z ^ (z >>> 16)) >>> 0;
}

/** The protocol tells numbers of players and no names: each gets a callsign, the same everywhere. */
export function callsign(player: bigint): string {
  const n = mixed(player);
  return `${FIRST[n & 15]!} ${SECOND[(n >>> 9) & 15]!}`;
}

/** Whether a house bot of the node steers it. */
export function isBot(player: bigint): boolean {
  return player >= NODES_OWN;
}

/** A colour for a player, calm and bright enough on dark. */
export function colour(player: bigint): string {
  const hue = (Math.imul(mixed(player), 137) >>> 0) % 360;
  // The own colour is teal: others keep away from it.
  const free = 195 + (hue / 360) * 310;
  return `hsl(${Math.round(free % 360)} 62% 66%)`;
}
