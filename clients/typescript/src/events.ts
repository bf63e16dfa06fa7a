/** What a session tells its game. */
import type { CarrierKind } from "./carrier.js";
import type { SnapshotHeader } from "./header.js";
import type { Refusal, Welcome } from "./messages.js";
import type { View } from "./snapshot.js";

/** What happened, in the order in which the client learnt of it. */
export type SessionEvent =
  /** The session begins. */
  | { readonly type: "welcome"; readonly welcome: Welcome; readonly carrier: CarrierKind }
  /** It goes on over a new connection; `outage`: milliseconds since the old one last spoke. */
  | {
      readonly type: "resumed";
      readonly welcome: Welcome;
      readonly carrier: CarrierKind;
      readonly outage: number;
    }
  /** It goes on at another node. Follows `resumed`. */
  | { readonly type: "moved"; readonly from: string; readonly to: string; readonly gap: number }
  /** The world, newer than the one before. */
  | {
      readonly type: "snapshot";
      readonly header: SnapshotHeader;
      readonly view: View;
      /** All entities are as of this tick; otherwise some did not fit. */
      readonly complete: boolean;
    }
  /** The hash of the match after a tick. */
  | { readonly type: "beat"; readonly tick: number; readonly hash: Uint8Array }
  /** Something happened in the game. */
  | {
      readonly type: "event";
      readonly tick: number;
      readonly ordinal: number;
      readonly kind: string;
      readonly payload: Uint8Array;
    }
  /** What became of a command; `undefined` if the server that knew has died: it was applied once. */
  | {
      readonly type: "commandDone";
      readonly seq: number;
      readonly tick: number | undefined;
      readonly accepted: boolean | undefined;
    }
  /** What was seen of ticks behind `to` no longer holds. */
  | { readonly type: "rewound"; readonly epoch: number; readonly to: number }
  /** Events of these ticks may have happened that this client was not told. */
  | { readonly type: "eventsMissed"; readonly from: number; readonly to: number }
  /** The connection is gone or silent; the client looks for a server. */
  | { readonly type: "disconnected"; readonly reason: string }
  /** The match is over. `closed` follows. */
  | { readonly type: "ended"; readonly reason: string }
  /** The last event: the client has stopped. */
  | { readonly type: "closed"; readonly code: Refusal | undefined; readonly message: string };

/** The event of a type. */
export type EventOf<T extends SessionEvent["type"]> = Extract<SessionEvent, { type: T }>;
