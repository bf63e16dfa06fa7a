/** Pictures of a match, as the node that runs it sketches them (`/play/sketch/MATCH`). */
/** A sketch older than this is not shown, in milliseconds. */
const STALE = 2_000;
/** The newest sketch of a match. Gives up by itself where there is none. */
export class Sketches {
    source;
    last;
    /** Asks the node that has the match from now on. */
    follow(origin, match) {
        this.close();
        const source = new EventSource(`${origin}/play/sketch/${match}`);
        source.onmessage = ({ data }) => {
            const { sketch } = JSON.parse(data);
            this.last = { sketch, at: performance.now() };
        };
        // A node that is gone is not asked again: the session says where the match goes on.
        source.onerror = () => source.close();
        this.source = source;
    }
    get newest() {
        return this.last && performance.now() - this.last.at < STALE ? this.last.sketch : undefined;
    }
    close() {
        this.source?.close();
        this.source = undefined;
    }
}
