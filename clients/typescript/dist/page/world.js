/** A match of the arena as the page draws it: of a scene's entities, what is where. */
import { PHASES, PICKUPS, WEAPONS } from "../games/arena.js";
import { arenaEntities } from "../games/arena.schema.js";
import { columnOf } from "../index.js";
const [FIGHTER, DRONE, ROCKET] = [0, 1, 2];
/** Reads matches of the arena out of scenes. */
export class Eyes {
    /** For whoever reads rows. */
    place;
    read;
    constructor(schema) {
        const at = (component, field) => columnOf(schema, `arena.${component}`, field);
        this.read = arenaEntities(schema);
        this.place = {
            x: at("position", "x"),
            y: at("position", "y"),
            vx: at("velocity", "x"),
            vy: at("velocity", "y"),
            health: at("health", "points"),
        };
    }
    see(scene) {
        const fighters = [];
        const drones = [];
        const rockets = [];
        const pickups = [];
        let [phase, seconds] = ["live", 0];
        for (const entity of scene.things.map(this.read)) {
            const clock = entity["arena.clock"];
            if (clock)
                [phase, seconds] = [PHASES[clock.phase] ?? "live", clock.seconds];
            const at = entity["arena.position"];
            if (!at)
                continue;
            const body = { slot: entity.slot, x: at.x, y: at.y };
            const [kind, pickup] = [entity["arena.body"]?.kind, entity["arena.pickup"]];
            const [health, velocity] = [entity["arena.health"], entity["arena.velocity"]];
            if (kind === FIGHTER) {
                const view = fighter(body, entity);
                if (view)
                    fighters.push(view);
            }
            else if (kind === DRONE) {
                if (health && health.points > 0)
                    drones.push(body);
            }
            else if (kind === ROCKET && velocity) {
                rockets.push({ ...body, vx: velocity.x, vy: velocity.y });
            }
            else if (pickup?.there) {
                pickups.push({ ...body, kind: PICKUPS[pickup.kind] ?? "health" });
            }
        }
        return { tick: scene.tick, fighters, drones, rockets, pickups, phase, seconds };
    }
}
function fighter(body, entity) {
    const [who, aim] = [entity["arena.fighter"], entity["arena.aim"]];
    const [arms, score] = [entity["arena.arms"], entity["arena.score"]];
    const health = entity["arena.health"];
    if (!who || !aim || !arms || !score || !health)
        return undefined;
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
function mixed(player) {
    let z = Number((player ^ (player >> 31n)) & 0xffffffffn);
    z = Math.imul(z ^ (z >>> 16), 0x85eb_ca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2_ae35);
    return (z ^ (z >>> 16)) >>> 0;
}
/** The protocol tells numbers of players and no names: each gets a callsign, the same everywhere. */
export function callsign(player) {
    const n = mixed(player);
    return `${FIRST[n & 15]} ${SECOND[(n >>> 9) & 15]}`;
}
/** Whether a house bot of the node steers it. */
export function isBot(player) {
    return player >= NODES_OWN;
}
/** A colour for a player, calm and bright enough on dark. */
export function colour(player) {
    const hue = (Math.imul(mixed(player), 137) >>> 0) % 360;
    // The own colour is teal: others keep away from it.
    const free = 195 + (hue / 360) * 310;
    return `hsl(${Math.round(free % 360)} 62% 66%)`;
}
