/**
 * Client of Rekindle game servers, for browsers and Node: sessions that outlive a server's death,
 * snapshots, interpolation, prediction.
 *
 * @example
 * const session = connect({ edge: location.origin, ticket });
 * const x = columnOf(schema, "arena.position", "x");
 * const draw = () => {
 *   for (const thing of session.scene()?.things ?? []) dot(thing.values[x]);
 *   requestAnimationFrame(draw);
 * };
 */
export type { CarrierKind } from "./carrier.js";
export { ClockSync } from "./clock.js";
export { DocumentError, type Documents, type DocumentCall, type DocumentDone, type DocumentOutcome, type DocumentQuery, type DocumentRow, type DocumentRows, } from "./documents.js";
export type { Edge } from "./edge.js";
export { ProtocolError } from "./error.js";
export type { EventOf, SessionEvent } from "./events.js";
export type { Applied, SnapshotHeader } from "./header.js";
export { Interpolator, type Scene, type Thing } from "./interpolate.js";
export type { Refusal, Role, Welcome } from "./messages.js";
export { Prediction, type Predictor } from "./predict.js";
export { columnOf, componentOf, columns, dequantise, type Component, type Field, type FieldKind, type Schema, } from "./schema.js";
export { connect, Session, type SessionOptions, type Stats } from "./session.js";
export type { Lobby } from "./session/driver.js";
export type { Timing } from "./session/dialer.js";
export type { SentInput } from "./session/state.js";
export { entityIn, type Entity, type View } from "./snapshot.js";
export { entityReader, type Parts } from "./typed.js";
