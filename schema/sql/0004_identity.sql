-- Which store this is: one row, never copied with the others. A match that is taken over continues in epoch `floor` or a higher one.
CREATE TABLE store_identity (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    id      text   NOT NULL, -- 32 hexadecimal digits
    floor   bigint NOT NULL,
    made    bigint NOT NULL, -- milliseconds since 1970
    because text   NOT NULL,
    place   text   NOT NULL  -- of which server, timeline, database and table it was written
);
