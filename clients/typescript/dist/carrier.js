/** What carries a session: a stream of bytes both ways, and datagrams both ways. */
/** A close code of QUIC, as a refusal. */
export function refusalOf(code) {
    return code !== undefined && code >= 0x100 && code < 0x200 ? code - 0x100 : undefined;
}
