/**
 * Bytes that a server sent and that mean nothing in the protocol. All decoders throw this and
 * nothing else.
 */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}
