/** Chances that a bit is 1, in 1/65536, and how many bits each has seen. */
export declare class Chances {
    private readonly one;
    private readonly seen;
    constructor(one: Uint16Array);
    /** How many. */
    get length(): number;
    get(at: number): number;
    learn(at: number, bit: boolean): void;
}
/** Reads bits; behind the end come zeros, at most four bytes of them. */
export declare class RangeReader {
    private readonly bytes;
    private at;
    private code;
    private range;
    constructor(bytes: Uint8Array);
    private read;
    private normalise;
    /** One bit, foreseen by a chance that learns from it. */
    bit(chances: Chances, at: number): boolean;
    /** Plain bits, at most 32. */
    get(bits: number): number;
    flag(): boolean;
    /** Whether the bytes are those that a writer ends with. */
    atEnd(): boolean;
}
