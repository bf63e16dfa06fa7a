/** A match of the arena as the page draws it: of a scene's columns, what is where. */
import { PHASES, PICKUPS, WEAPONS } from "../games/arena.js";
import { columnOf, componentOf } from "../index.js";
const [FIGHTER, DRONE, ROCKET] = [0, 1, 2];
/** Finds the columns of the arena in a schema. */
export class Eyes {
    at;
    clock;
    columns;
    constructor(schema) {
        this.at = (component, field) => columnOf(schema, `arena.${component}`, field);
        this.clock = componentOf(schema, "arena.clock");
        const at = this.at;
        this.columns = {
            kind: at("body", "kind"),
            x: at("position", "x"),
            y: at("position", "y"),
            vx: at("velocity", "x"),
            vy: at("velocity", "y"),
            health: at("health", "points"),
            low: at("fighter", "player_low"),
            high: at("fighter", "player_high"),
            angle: at("aim", "angle"),
            firing: at("aim", "firing"),
            weapon: at("arms", "weapon"),
            shells: at("arms", "shells"),
            rockets: at("arms", "rockets"),
            kills: at("score", "kills"),
            deaths: at("score", "deaths"),
            pickup: at("pickup", "kind"),
            there: at("pickup", "there"),
            phase: at("clock", "phase"),
            seconds: at("clock", "seconds"),
        };
    }
    /** Place and velocity of a row or of a thing's values, before they are quantities. */
    get place() {
        return this.columns;
    }
    fighter({ slot, values }) {
        const c = this.columns;
        return {
            slot,
            x: values[c.x],
            y: values[c.y],
            player: (BigInt(values[c.high]) << 32n) | BigInt(values[c.low]),
            angle: values[c.angle],
            firing: values[c.firing] === 1,
            health: values[c.health],
            weapon: WEAPONS[values[c.weapon]] ?? "blaster",
            shells: values[c.shells],
            rockets: values[c.rockets],
            kills: values[c.kills],
            deaths: values[c.deaths],
        };
    }
    see(scene) {
        const c = this.columns;
        const fighters = [];
        const drones = [];
        const rockets = [];
        const pickups = [];
        let [phase, seconds] = ["live", 0];
        for (const thing of scene.things) {
            const { slot, values } = thing;
            if (thing.components & this.clock) {
                phase = PHASES[values[c.phase]] ?? "live";
                seconds = values[c.seconds];
                continue;
            }
            const body = { slot, x: values[c.x], y: values[c.y] };
            if (values[c.kind] === FIGHTER)
                fighters.push(this.fighter(thing));
            else if (values[c.kind] === DRONE) {
                if (values[c.health] > 0)
                    drones.push(body);
            }
            else if (values[c.kind] === ROCKET) {
                rockets.push({ ...body, vx: values[c.vx], vy: values[c.vy] });
            }
            else if (values[c.there] === 1) {
                pickups.push({ ...body, kind: PICKUPS[values[c.pickup]] ?? "health" });
            }
        }
        return { tick: scene.tick, fighters, drones, rockets, pickups, phase, seconds };
    }
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
