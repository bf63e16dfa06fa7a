import type { Thing } from "./interpolate.js";
import { type FieldKind, type Schema } from "./schema.js";
type Kind = FieldKind["type"];
/**
 * The components that are read, and their fields with their kinds. `"wide"` is a whole number of
 * more than 32 bits, in two columns; a kind and a number a list of at most so many, in a column
 * each and one for its length.
 */
export type Parts = Readonly<Record<string, Readonly<Record<string, Kind | "wide" | readonly [Kind, number]>>>>;
/**
 * Reads things of a scene as `T`: `slot`, and an object for each component of `parts` that the
 * thing has. Throws a {@link ProtocolError} that names the first field which `schema` lacks or has
 * in another kind: the server plays another version of the game.
 */
export declare function entityReader<T>(schema: Schema, parts: Parts): (thing: Thing) => T;
export {};
