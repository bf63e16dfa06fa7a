/**
 * What snapshots of `arena` carry. Made by `rekindle game schema arena --ts`:
 * make it anew when the components of the game change.
 */
import { entityReader, type Schema, type Thing } from "../index.js";

export interface ArenaAim {
  /** Radians, 8 bits of a turn. */
  readonly angle: number;
  /** Yes or no. */
  readonly firing: boolean;
}

export interface ArenaArms {
  /** A whole number of 2 bits. */
  readonly weapon: number;
  /** A whole number of 6 bits. */
  readonly shells: number;
  /** A whole number of 6 bits. */
  readonly rockets: number;
}

export interface ArenaBody {
  /** A whole number of 2 bits. */
  readonly kind: number;
}

export interface ArenaClock {
  /** A whole number of 2 bits. */
  readonly phase: number;
  /** A whole number of 14 bits. */
  readonly seconds: number;
}

export interface ArenaFighter {
  /** A whole number of 32 bits. */
  readonly player_low: number;
  /** A whole number of 32 bits. */
  readonly player_high: number;
}

export interface ArenaHealth {
  /** A whole number of 7 bits. */
  readonly points: number;
}

export interface ArenaPickup {
  /** A whole number of 2 bits. */
  readonly kind: number;
  /** Yes or no. */
  readonly there: boolean;
}

export interface ArenaPosition {
  /** -64 to 63.992188, in steps of 7.81e-3. */
  readonly x: number;
  /** -64 to 63.992188, in steps of 7.81e-3. */
  readonly y: number;
}

export interface ArenaScore {
  /** A whole number of 10 bits. */
  readonly kills: number;
  /** A whole number of 10 bits. */
  readonly deaths: number;
}

export interface ArenaVelocity {
  /** -32 to 31.875, in steps of 1.25e-1. */
  readonly x: number;
  /** -32 to 31.875, in steps of 1.25e-1. */
  readonly y: number;
}

/** An entity, with those of the components that it has. */
export interface ArenaEntity {
  readonly slot: number;
  readonly "arena.aim"?: ArenaAim;
  readonly "arena.arms"?: ArenaArms;
  readonly "arena.body"?: ArenaBody;
  readonly "arena.clock"?: ArenaClock;
  readonly "arena.fighter"?: ArenaFighter;
  readonly "arena.health"?: ArenaHealth;
  readonly "arena.pickup"?: ArenaPickup;
  readonly "arena.position"?: ArenaPosition;
  readonly "arena.score"?: ArenaScore;
  readonly "arena.velocity"?: ArenaVelocity;
}

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
} as const;

/**
 * Reads the things of a scene. Throws if the schema of a welcome lacks a field.
 */
export function arenaEntities(schema: Schema): (thing: Thing) => ArenaEntity {
  return entityReader<ArenaEntity>(schema, PARTS);
}
