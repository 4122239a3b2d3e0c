create table namespaces (
    id blob primary key,
    name text not null unique,
    secret blob not null,
    created real not null,       -- seconds since 1970
    seal integer not null generated always as (seal(id, name, secret)) stored
) strict;
create table credentials (
    digest blob primary key,
    namespace blob not null references namespaces (id)
) strict;
create table salts (
    salt blob not null           -- one row: of this file's credentials
) strict;

create table sessions (
    id integer primary key,
    namespace blob not null references namespaces (id) on delete cascade,
    name text not null,
    origin text not null,         -- the session it was forked from; '' for most
    paused integer not null,
    created real not null,        -- seconds since 1970
    updated real not null,
    unique (namespace, name)
) strict;
create index sessions_by_use on sessions (namespace, updated);
create table messages (
    session integer not null references sessions (id) on delete cascade,
    place integer not null,       -- order; what is forgotten leaves a gap
    body text not null,           -- the message as templates read it, as JSON
    notes text not null,          -- what was recalled for it and stands before it in the prompt
    told real not null,
    seal integer not null generated always as (seal(session, place, body)) stored,
    notes_seal integer not null generated always as (seal(session, place, notes)) stored,
    primary key (session, place)
) strict, without rowid;
create table message_episodes (   -- what a message was remembered as; forks share it
    episode blob not null,
    session integer not null,
    place integer not null,
    primary key (episode, session, place),
    foreign key (session, place) references messages (session, place) on delete cascade
) strict, without rowid;
create index message_episodes_by_place on message_episodes (session, place);
create table message_notes (      -- what was recalled into a message
    session integer not null,
    place integer not null,
    episode blob not null,
    score real not null,
    primary key (session, place, episode),
    foreign key (session, place) references messages (session, place) on delete cascade
) strict, without rowid;
create index message_notes_by_episode on message_notes (episode);
create table transcripts (
    session integer not null references sessions (id) on delete cascade,
    tokenizer blob not null,      -- its fingerprint
    start integer not null,       -- tokens before these
    first integer not null,       -- no message before this has a token in here,
    last integer not null,        -- and none after this
    tokens blob not null,         -- little-endian int32
    seal integer not null generated always as (seal(session, tokenizer, start, tokens)) stored,
    primary key (session, tokenizer, start)
) strict, without rowid;

create table episodes (
    number integer primary key,
    id blob not null unique,
    namespace blob not null references namespaces (id) on delete cascade,
    session text not null,       -- name of the session; '' for a document
    place integer not null,      -- order in its session or document
    source text not null,
    speaker text not null,
    told real not null,          -- seconds since 1970
    body text not null,
    seal integer not null generated always as (
        seal(id, namespace, session, place, source, speaker, told, body)
    ) stored
) strict;
create index episodes_by_place on episodes (namespace, session, source, place);
create index episodes_by_time on episodes (namespace, told);
create table vectors (
    embedder text not null,
    number integer not null references episodes (number) on delete cascade,
    vector blob not null,        -- float16
    primary key (embedder, number)
) strict, without rowid;
create index vectors_by_number on vectors (number);

create table forgettings (        -- begun and not finished
    id integer primary key,
    namespace blob not null,
    episodes blob not null        -- their ids, one after the other
) strict;
