/** Reads values from bytes, front to back. */
export declare class Reader {
    readonly bytes: Uint8Array;
    at: number;
    private readonly view;
    constructor(bytes: Uint8Array);
    /** How many bytes are left. */
    get left(): number;
    private advance;
    u8(): number;
    bool(): boolean;
    u16le(): number;
    u32le(): number;
    u64le(): bigint;
    i8(): number;
    f32(): number;
    /** A varint of up to 64 bits. */
    u64(): bigint;
    private shortest;
    /** A varint that a `number` holds exactly, at most `most`. */
    int(most?: number): number;
    /** So many bytes, copied. */
    take(count: number): Uint8Array;
    /** Bytes behind their length. */
    blob(): Uint8Array;
    string(): string;
    /** Elements behind their count. Each takes at least a byte, so a count is bounded by them. */
    list<T>(element: () => T): T[];
    option<T>(element: () => T): T | undefined;
    /** Nothing may be left. */
    end(): void;
}
/** Appends values to bytes. */
export declare class Writer {
    private buffer;
    private view;
    private length;
    private room;
    u8(value: number): this;
    bool(value: boolean): this;
    u16le(value: number): this;
    u32le(value: number): this;
    u64le(value: bigint): this;
    f32(value: number): this;
    /** The shortest varint of a number of up to 64 bits. */
    uint(value: bigint | number): this;
    raw(bytes: Uint8Array): this;
    blob(bytes: Uint8Array): this;
    string(text: string): this;
    list<T>(elements: readonly T[], put: (element: T) => void): this;
    option<T>(value: T | undefined, put: (value: T) => void): this;
    /** All that was written, copied. */
    finish(): Uint8Array;
}
/** Most bytes of a message of the server. */
export declare const MAX_MESSAGE = 65536;
/** Cuts a stream of bytes into messages: each stands behind its length, a little-endian `u32`. */
export declare class Framer {
    private held;
    /**
     * Takes in bytes, cut anywhere, and gives the messages that are complete, without their lengths.
     * After an error the stream cannot be read on.
     */
    push(chunk: Uint8Array): Uint8Array[];
}
/** A message behind its length. */
export declare function framed(message: Uint8Array): Uint8Array;
