/**
 * The client's side of its session: what was sent, what was learnt, where the match stands. No I/O:
 * the time is an argument, and what is to be sent is returned. `driver.ts` keeps the connection.
 */
import { ClockSync } from "../clock.js";
import type { SessionEvent } from "../events.js";
import { Interpolator } from "../interpolate.js";
import { type Heard, type Role, type ServerMessage, type Stood, type Welcome } from "../messages.js";
import { Questions } from "./questions.js";
/** An input that was sent. */
export interface SentInput {
    /** Its number: snapshots name it when it was applied. */
    readonly seq: number;
    /** The tick that it is meant for. */
    readonly target: number;
}
/** What a client went through since it was made. */
export interface Counts {
    redirects: number;
    moves: number;
    repeated: number;
    gaps: number;
}
interface Command {
    readonly seq: number;
    readonly payload: Uint8Array;
}
export declare class SessionState {
    readonly role: Role;
    welcome: Welcome | undefined;
    clock: ClockSync;
    interpolator: Interpolator | undefined;
    readonly counts: Counts;
    /** The newest tick seen. */
    newest: number;
    /** What documents are asked. */
    readonly questions: Questions;
    /** When the last packet was made. */
    sentAt: number;
    private receiver;
    private readonly inputs;
    private targets;
    private commands;
    private nextCommand;
    /** Commands below this number were taken by a server: their results may have died with it. */
    private takenUntil;
    private epoch;
    private beats;
    private heardUntil;
    private arrivals;
    constructor(role: Role);
    /** Where the client stands, for a server that it comes back to. */
    stood(): Stood | undefined;
    heard(): Heard | undefined;
    /** The part of snapshots that did not come of late, 0 to 1. */
    loss(): number;
    /** Ticks behind `to` have not happened. False if none of them was seen. */
    private rewind;
    /**
     * A connection carries the session now. `to`: the newest tick that still holds, if the server
     * said so. `moved`: the match went on without a pause, so inputs on their way are still wanted.
     */
    takeUp(welcome: Welcome, to: number | undefined, moved: boolean): SessionEvent[];
    /**
     * The server expects command `next`. Whatever waits behind a gap can never be taken, and neither
     * can what became of it be told.
     */
    private alignCommands;
    /** Commands that the server has not taken, in order. */
    untaken(): readonly Command[];
    /** Numbers a command, which waits until its result comes. */
    command(payload: Uint8Array): Command;
    /** Numbers an input. */
    input(payload: Uint8Array, now: number): SentInput;
    /** A packet with all inputs that no snapshot has named. */
    packet(now: number): Uint8Array | undefined;
    /** Takes a snapshot in; what it gives the game, if it is newer than the one before. */
    received(datagram: Uint8Array, now: number): SessionEvent[];
    /** A second after a resume, results that have not come will not come. */
    private lapse;
    /** Takes a message of the stream in, if it is for the game. */
    told(message: ServerMessage): SessionEvent[];
}
export {};
