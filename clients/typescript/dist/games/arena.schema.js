/**
 * What snapshots of `arena` carry. Made by `rekindle game schema arena --ts`:
 * make it anew when the components of the game change.
 */
import { entityReader } from "../index.js";
const PARTS = {
    "arena.aim": { angle: "angle", firing: "bool" },
    "arena.arms": { weapon: "unsigned", shells: "unsigned", rockets: "unsigned" },
    "arena.body": { kind: "unsigned" },
    "arena.clock": { phase: "unsigned", seconds: "unsigned" },
    "arena.fighter": { player_low: "unsigned", player_high: "unsigned" },
    "arena.health": { points: "unsigned" },
    "arena.pickup": { kind: "unsigned", there: "bool" },
    "arena.position": { x: "float", y: "float" },
    "arena.score": { kills: "unsigned", deaths: "unsigned" },
    "arena.velocity": { x: "float", y: "float" },
};
/**
 * Reads the things of a scene. Throws if the schema of a welcome lacks a field.
 */
export function arenaEntities(schema) {
    return entityReader(schema, PARTS);
}
