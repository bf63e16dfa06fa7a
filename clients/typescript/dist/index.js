export { ClockSync } from "./clock.js";
export { DocumentError, } from "./documents.js";
export { ProtocolError } from "./error.js";
export { Interpolator } from "./interpolate.js";
export { Prediction } from "./predict.js";
export { columnOf, componentOf, columns, dequantise, } from "./schema.js";
export { connect, Session } from "./session.js";
export { entityIn } from "./snapshot.js";
export { entityReader } from "./typed.js";
