/**
 * Entities as objects with named fields, for code that `rekindle game schema --ts` makes of a
 * game's components.
 */
import { ProtocolError } from "./error.js";
import type { Thing } from "./interpolate.js";
import { columnOf, columns, componentOf, type FieldKind, type Schema } from "./schema.js";

/** The components that are read, and their fields with their kinds. */
export type Parts = Readonly<Record<string, Readonly<Record<string, FieldKind["type"]>>>>;

/**
 * Reads things of a scene as `T`: `slot`, and an object for each component of `parts` that the
 * thing has. Throws a {@link ProtocolError} that names the first field which `schema` lacks or has
 * in another kind: the server plays another version of the game.
 */
export function entityReader<T>(schema: Schema, parts: Parts): (thing: Thing) => T {
  const all = columns(schema);
  const wanted = Object.entries(parts).map(([component, fields]) => ({
    component,
    mask: componentOf(schema, component),
    fields: Object.entries(fields).map(([field, kind]) => {
      const column = columnOf(schema, component, field);
      const found = all[column]?.kind.type;
      if (found !== kind) {
        throw new ProtocolError(
          `the game of the server has ${found ?? "no"} field ${component}.${field}; ${kind} is wanted`,
        );
      }
      return { field, column, flag: kind === "bool" };
    }),
  }));
  return ({ slot, components, values }) => {
    const entity: Record<string, unknown> = { slot };
    for (const { component, mask, fields } of wanted) {
      if ((components & mask) === 0) continue;
      const part: Record<string, number | boolean> = {};
      for (const { field, column, flag } of fields) {
        part[field] = flag ? values[column] === 1 : values[column]!;
      }
      entity[component] = part;
    }
    return entity as T;
  };
}
