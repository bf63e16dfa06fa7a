import type { Thing } from "./interpolate.js";
import { type FieldKind, type Schema } from "./schema.js";
/** The components that are read, and their fields with their kinds. */
export type Parts = Readonly<Record<string, Readonly<Record<string, FieldKind["type"]>>>>;
/**
 * Reads things of a scene as `T`: `slot`, and an object for each component of `parts` that the
 * thing has. Throws a {@link ProtocolError} that names the first field which `schema` lacks or has
 * in another kind: the server plays another version of the game.
 */
export declare function entityReader<T>(schema: Schema, parts: Parts): (thing: Thing) => T;
