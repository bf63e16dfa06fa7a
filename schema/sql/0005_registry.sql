-- Small entries by name that all nodes of the store share: its keys, its members. Changed by compare-and-set on `version`.
CREATE TABLE registry (
    name    text COLLATE "C" PRIMARY KEY, -- compared byte by byte: lists by prefix are ranges
    version bigint NOT NULL,
    entry   bytea  NOT NULL               -- the encoded entry, name and version included
);
