/** Reads bits; each byte is filled from its lowest bit. */
export declare class BitReader {
    private readonly bytes;
    private at;
    private readonly end;
    constructor(bytes: Uint8Array);
    /** The next `bits` bits as a number, at most 32. */
    get(bits: number): number;
    /** One bit. */
    flag(): boolean;
    /** A Rice code: a quotient in ones, a zero, `k` bits. */
    rice(k: number): number;
    /** Whether only the padding of the last byte is left, and it is 0. */
    atEnd(): boolean;
}
/** Reads bytes and LEB128 varints of the heads of datagrams. */
export declare class ByteReader {
    private readonly bytes;
    private at;
    constructor(bytes: Uint8Array);
    byte(): number;
    u32(): number;
    /** A varint that a `number` holds exactly; others are refused. */
    varint(): number;
    /** A signed difference, zigzag coded. */
    signed(): number;
    take(count: number): Uint8Array;
    /** What is left, not copied. */
    rest(): Uint8Array;
}
/** Appends an unsigned LEB128 varint. */
export declare function putVarint(out: number[], value: number): void;
/** Appends a signed difference, zigzag coded. */
export declare function putSigned(out: number[], value: number): void;
