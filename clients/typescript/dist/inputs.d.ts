/** An input that is on its way. */
export interface InputItem {
    /** Its number in the session. */
    readonly seq: number;
    /** The tick that it is meant for. */
    readonly target: number;
    /** The tick that the player was looking at. */
    readonly view: number;
    /** The game's encoding. */
    readonly payload: Uint8Array;
}
/** What snapshots were received: the newest, and a bit for each of the 32 ticks before it. */
export interface Acknowledgement {
    readonly tick: number;
    readonly bits: number;
}
export interface InputPacket extends Acknowledgement {
    /** The client's clock in milliseconds, 32 bits, never 0. */
    readonly clock: number;
    readonly inputs: readonly InputItem[];
}
/** A packet as a datagram. */
export declare function encodeInputs(packet: InputPacket): Uint8Array;
/** Reads a packet: for servers of tests. */
export declare function decodeInputs(datagram: Uint8Array): InputPacket;
/** Numbers inputs, and keeps those that no snapshot has named so that each packet repeats them. */
export declare class InputSender {
    private next;
    private kept;
    constructor(next: number);
    /** The number that the next input gets. */
    get nextSeq(): number;
    /** Inputs that no snapshot has named, oldest first. */
    get pending(): readonly InputItem[];
    push(payload: Uint8Array, target: number, view: number): InputItem;
    /** A packet of at most `budget` bytes with the newest inputs that no snapshot has named. */
    packet(ack: Acknowledgement, clock: number, budget: number): Uint8Array;
    /** A snapshot named input `seq`: it and older ones need not be sent again. */
    applied(seq: number): void;
    /** The server takes no input below `next`. */
    skipTo(next: number): void;
    /** Gives up all inputs that are on their way, and goes on at `next` at least. */
    restart(next: number): void;
}
