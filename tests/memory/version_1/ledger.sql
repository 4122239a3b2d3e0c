create table segments (
    number integer primary key,
    size integer not null,
    used integer not null        -- bytes up to the end of the last record that is named
) strict;
create table origins (           -- what blocks have in common, kept once
    id integer primary key,
    namespace blob not null,
    fingerprint blob not null,
    unique (namespace, fingerprint)
) strict;
create table blocks (
    id blob primary key,
    origin integer not null references origins (id),
    parent blob not null,
    depth integer not null,      -- blocks before it in its sequence
    segment integer not null,
    place integer not null,
    length integer not null,
    touched integer not null     -- when it was last attached, in the store's own count
) strict, without rowid;
create index blocks_by_place on blocks (segment, place);
create index blocks_by_use on blocks (touched, depth);
