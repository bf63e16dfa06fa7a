/**
 * Entities as objects with named fields, for code that `rekindle game schema --ts` makes of a
 * game's components.
 */
import { ProtocolError } from "./error.js";
import type { Thing } from "./interpolate.js";
import { columnOf, columns, componentOf, type FieldKind, type Schema } from "./schema.js";

type Kind = FieldKind["type"];

/**
 * The components that are read, and their fields with their kinds. `"wide"` is a whole number of
 * more than 32 bits, in two columns; a kind and a number a list of at most so many, in a column
 * each and one for its length.
 */
export type Parts = Readonly<
  Record<string, Readonly<Record<string, Kind | "wide" | readonly [Kind, number]>>>
>;

type Read = (values: ArrayLike<number>) => unknown;

/**
 * Reads things of a scene as `T`: `slot`, and an object for each component of `parts` that the
 * thing has. Throws a {@link ProtocolError} that names the first field which `schema` lacks or has
 * in another kind: the server plays another version of the game.
 */
export function entityReader<T>(schema: Schema, parts: Parts): (thing: Thing) => T {
  const all = columns(schema);
  const find = (component: string, field: string, kind: Kind): Read => {
    const column = columnOf(schema, component, field);
    const found = all[column]?.kind.type;
    if (found !== kind) {
      throw new ProtocolError(
        `the game of the server has ${found ?? "no"} field ${component}.${field}; ${kind} is wanted`,
      );
    }
    return kind === "bool" ? (values) => values[column] === 1 : (values) => values[column]!;
  };
  const reader = (component: string, field: string, kind: Parts[string][string]): Read => {
    if (kind === "wide") {
      const [low, high] = ["", ".high"].map((half) => find(component, field + half, "unsigned"));
      return (values) => BigInt(low!(values) as number) | (BigInt(high!(values) as number) << 32n);
    }
    if (typeof kind === "string") return find(component, field, kind);
    const length = find(component, `${field}.len`, "unsigned");
    const each = Array.from({ length: kind[1] }, (_, at) =>
      find(component, `${field}.${at}`, kind[0]),
    );
    return (values) => each.slice(0, length(values) as number).map((read) => read(values));
  };
  const wanted = Object.entries(parts).map(([component, fields]) => ({
    component,
    mask: componentOf(schema, component),
    fields: Object.entries(fields).map(
      ([field, kind]) => [field, reader(component, field, kind)] as const,
    ),
  }));
  return ({ slot, components, values }) => {
    const entity: Record<string, unknown> = { slot };
    for (const { component, mask, fields } of wanted) {
      if ((components & mask) === 0) continue;
      const part: Record<string, unknown> = {};
      for (const [field, read] of fields) part[field] = read(values);
      entity[component] = part;
    }
    return entity as T;
  };
}
