-- The published database: tables, views, macros, and what each of them means.
-- Belongs here: everything a reader of music.duckdb sees. Does not: filling it (publishing.py).
-- publishing.py puts the current model's dimension and name where FLOAT[D] and 'CURRENT_MODEL' stand:
-- vectors are then arrays, and the model's name a constant, which halves the time of similar_to.

------------------------------------------------------------------------------------------ tables

CREATE TABLE published (
    fingerprint VARCHAR NOT NULL,
    published_at TIMESTAMPTZ NOT NULL,
    model_id VARCHAR NOT NULL,
    code_version VARCHAR NOT NULL,
    form VARCHAR NOT NULL,
    vector_files JSON NOT NULL
);
COMMENT ON TABLE published IS 'What this file was made from, in one row. It is replaced by the next publishing, with all that is not from there: keep your own tables elsewhere.';
COMMENT ON COLUMN published.fingerprint IS 'Hash over names, sizes and times of all inputs and over this schema; publishing again with the same inputs does nothing';
COMMENT ON COLUMN published.published_at IS 'When this file was made';
COMMENT ON COLUMN published.model_id IS 'The current model, which the current_ views and the macros use';
COMMENT ON COLUMN published.code_version IS 'Version of FastDINO that made this file';
COMMENT ON COLUMN published.form IS 'Hash over this schema and that version: the next file is made of one of the same form by changing what changed';
COMMENT ON COLUMN published.vector_files IS 'Size and time of every file of vectors, by model and name';

CREATE TABLE tracks (
    track_id VARCHAR PRIMARY KEY,
    title VARCHAR NOT NULL,
    artist VARCHAR,
    artists VARCHAR[] NOT NULL,
    album VARCHAR,
    album_artist VARCHAR,
    genre VARCHAR,
    genres VARCHAR[] NOT NULL,
    year INTEGER,
    original_year INTEGER,
    track_number INTEGER,
    recording_mbid VARCHAR,
    isrc VARCHAR,
    duration_s DOUBLE,
    stated_s DOUBLE,
    is_incomplete BOOLEAN NOT NULL,
    path VARCHAR NOT NULL,
    start_s DOUBLE,
    end_s DOUBLE,
    n_files INTEGER NOT NULL,
    added_at TIMESTAMPTZ
);
COMMENT ON TABLE tracks IS 'Recordings, one row each: files with the same audio are one track, whatever their names and tags; of a file with a CUE sheet each track of the sheet is one';
COMMENT ON COLUMN tracks.track_id IS 'Hash of the encoded audio, and of the place in it: stays when a file is moved, renamed or retagged';
COMMENT ON COLUMN tracks.title IS 'Title tag, or the file name where there is none';
COMMENT ON COLUMN tracks.artist IS 'Artist tag; of several values all, with "; " between them';
COMMENT ON COLUMN tracks.artists IS 'Every artist by itself, in the order of the tag; empty if there is none';
COMMENT ON COLUMN tracks.album IS 'Album tag';
COMMENT ON COLUMN tracks.album_artist IS 'Album artist tag';
COMMENT ON COLUMN tracks.genre IS 'Genre tag; of several values all, with "; " between them';
COMMENT ON COLUMN tracks.genres IS 'Every genre by itself, in the order of the tag; empty if there is none';
COMMENT ON COLUMN tracks.year IS 'Year tag';
COMMENT ON COLUMN tracks.original_year IS 'Year of the first release, where a tag says so; year is that of this one';
COMMENT ON COLUMN tracks.track_number IS 'Track number tag';
COMMENT ON COLUMN tracks.duration_s IS 'Length of its sound in seconds, as far as it can be decoded; as its packets tell it where it has not been decoded yet';
COMMENT ON COLUMN tracks.stated_s IS 'Length in seconds that the file claims, if it does';
COMMENT ON COLUMN tracks.is_incomplete IS 'Whether its sound is shorter than it claims, such as that of half a download';
COMMENT ON COLUMN tracks.recording_mbid IS 'Identifier of the recording in MusicBrainz';
COMMENT ON COLUMN tracks.isrc IS 'International Standard Recording Code, twelve characters';
COMMENT ON COLUMN tracks.path IS 'Absolute path of one of its files: the one seen first, or the first that names an artist; its tags are shown here';
COMMENT ON COLUMN tracks.start_s IS 'Where it begins in its file, in seconds, if a CUE sheet says that there are several songs in it; else null';
COMMENT ON COLUMN tracks.end_s IS 'Where it ends there; null if the file ends with it';
COMMENT ON COLUMN tracks.n_files IS 'Number of files that hold this recording';
COMMENT ON COLUMN tracks.added_at IS 'When it was first seen; a song that was moved, renamed or retagged, or that left and came back, keeps that';

CREATE TABLE files (
    path VARCHAR NOT NULL,
    folder VARCHAR NOT NULL,
    track_id VARCHAR,
    start_s DOUBLE,
    end_s DOUBLE,
    size BIGINT NOT NULL,
    modified_at TIMESTAMPTZ NOT NULL,
    codec VARCHAR,
    sample_rate INTEGER,
    channels INTEGER,
    added_at TIMESTAMPTZ
);
COMMENT ON TABLE files IS 'Music files found, one row a path; of a file with a CUE sheet one for each song in it';
COMMENT ON COLUMN files.path IS 'Absolute path; a byte that is not UTF-8 is the character of number 0x10FE00 plus that byte';
COMMENT ON COLUMN files.folder IS 'The music folder it was found under';
COMMENT ON COLUMN files.track_id IS 'The recording it holds; null if it cannot be used, see failures';
COMMENT ON COLUMN files.start_s IS 'Where in the file that begins, in seconds; null if it is all of it';
COMMENT ON COLUMN files.end_s IS 'Where in the file that ends; null if the file ends with it';
COMMENT ON COLUMN files.size IS 'Bytes';
COMMENT ON COLUMN files.modified_at IS 'When the file was last changed';
COMMENT ON COLUMN files.codec IS 'Audio codec, such as mp3 or flac';
COMMENT ON COLUMN files.sample_rate IS 'Samples a second';
COMMENT ON COLUMN files.channels IS 'Channels';
COMMENT ON COLUMN files.added_at IS 'When this path was first seen';

CREATE TABLE failures (
    path VARCHAR NOT NULL,
    track_id VARCHAR,
    stage VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    size BIGINT,
    modified_at TIMESTAMPTZ,
    failed_at TIMESTAMPTZ,
    kind VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    next_try_at TIMESTAMPTZ
);
COMMENT ON TABLE failures IS 'Files that could not be used, or not as their CUE sheet says; each is tried again when it changes, and some by themselves';
COMMENT ON COLUMN failures.path IS 'Absolute path';
COMMENT ON COLUMN failures.track_id IS 'The recording, if it could be told';
COMMENT ON COLUMN failures.stage IS 'Where it failed: ingestion or spectrograms';
COMMENT ON COLUMN failures.reason IS 'What was wrong';
COMMENT ON COLUMN failures.size IS 'Bytes when it failed';
COMMENT ON COLUMN failures.modified_at IS 'When the file had last been changed when it failed';
COMMENT ON COLUMN failures.failed_at IS 'When it failed, if known';
COMMENT ON COLUMN failures.kind IS 'What is to blame: file (damaged, silent, too short), format (nothing here decodes it) or machine (killed, out of memory or time, a disk that failed)';
COMMENT ON COLUMN failures.attempts IS 'How often it was tried so far';
COMMENT ON COLUMN failures.next_try_at IS 'When it is tried again although it has not changed; null if it is not';

CREATE TABLE skipped (
    path VARCHAR PRIMARY KEY,
    folder VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    why VARCHAR NOT NULL
);
COMMENT ON TABLE skipped IS 'Files and folders that were not looked at. What lies beside music, such as covers, is not listed, nor is what skipped folders hold';
COMMENT ON COLUMN skipped.path IS 'Absolute path';
COMMENT ON COLUMN skipped.folder IS 'The music folder it was found under';
COMMENT ON COLUMN skipped.kind IS 'format: of a kind that is not read; excluded, excluded folder: named by FASTDINO_EXCLUDE; marked folder: with a file .nomedia or an empty .ndignore; junk, junk folder: kept by a system or a program for itself';
COMMENT ON COLUMN skipped.why IS 'What it was left out for';

CREATE TABLE models (
    model_id VARCHAR PRIMARY KEY,
    created_at TIMESTAMPTZ,
    is_current BOOLEAN NOT NULL,
    has_vectors BOOLEAN NOT NULL,
    dim INTEGER NOT NULL,
    spec_id VARCHAR NOT NULL,
    trained_tracks INTEGER,
    code_version VARCHAR,
    settings JSON,
    metrics JSON,
    described JSON
);
COMMENT ON TABLE models IS 'Trained models';
COMMENT ON COLUMN models.model_id IS 'Name of the model; a model is never changed after it was made';
COMMENT ON COLUMN models.created_at IS 'When training ended';
COMMENT ON COLUMN models.is_current IS 'True for the one that the current_ views and the macros use';
COMMENT ON COLUMN models.has_vectors IS 'Whether its vectors are in this file: they are if it has the current dimension. Neighbours and maps are here for every model';
COMMENT ON COLUMN models.dim IS 'Length of its vectors';
COMMENT ON COLUMN models.spec_id IS 'The spectrogram settings it was trained on';
COMMENT ON COLUMN models.trained_tracks IS 'Number of tracks it was trained on';
COMMENT ON COLUMN models.code_version IS 'Version of FastDINO that trained it';
COMMENT ON COLUMN models.settings IS 'Training settings';
COMMENT ON COLUMN models.metrics IS 'Quality figures at the end of training';
COMMENT ON COLUMN models.described IS 'All that its model.json says, so that verify can give that back: also by which method and from which model it was trained';

CREATE TABLE embeddings (
    track_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    vec FLOAT[D] NOT NULL,
    shard VARCHAR NOT NULL
);
COMMENT ON TABLE embeddings IS 'One vector a song and model: songs that sound alike have a high inner product';
COMMENT ON COLUMN embeddings.track_id IS 'The song';
COMMENT ON COLUMN embeddings.model_id IS 'The model that made the vector; vectors of different models cannot be compared';
COMMENT ON COLUMN embeddings.vec IS 'Vector of unit length: array_inner_product of two is their cosine similarity';
COMMENT ON COLUMN embeddings.shard IS 'File that its vectors, and those of its segments, come from';

CREATE TABLE segments (
    track_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    start_s FLOAT NOT NULL,
    end_s FLOAT NOT NULL,
    vec FLOAT[D] NOT NULL,
    sketch STRUCT(w1 BIGINT, w2 BIGINT, w3 BIGINT, w4 BIGINT, w5 BIGINT, w6 BIGINT, w7 BIGINT, w8 BIGINT) NOT NULL
);
COMMENT ON TABLE segments IS 'Vectors of stretches of songs, for finding similar moments';
COMMENT ON COLUMN segments.track_id IS 'The song';
COMMENT ON COLUMN segments.model_id IS 'The model that made the vector';
COMMENT ON COLUMN segments.start_s IS 'Start within the song, in seconds';
COMMENT ON COLUMN segments.end_s IS 'End within the song, in seconds';
COMMENT ON COLUMN segments.vec IS 'Vector of unit length, in thousandths, which changes a similarity by less than 0.003; the full one is in the Parquet files under vectors';
COMMENT ON COLUMN segments.sketch IS 'The vector in 512 bits: the fewer of two differ, the more alike they are; see sketch_distance';

CREATE TABLE neighbors (
    track_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    rank INTEGER NOT NULL,
    neighbor_id VARCHAR NOT NULL,
    similarity FLOAT NOT NULL
);
COMMENT ON TABLE neighbors IS 'The 20 most similar songs of every song, found exactly, for every model that has a map';
COMMENT ON COLUMN neighbors.track_id IS 'The song';
COMMENT ON COLUMN neighbors.model_id IS 'The model whose vectors were compared';
COMMENT ON COLUMN neighbors.rank IS '1 for the most similar';
COMMENT ON COLUMN neighbors.neighbor_id IS 'The similar song';
COMMENT ON COLUMN neighbors.similarity IS 'Cosine similarity, 1 for the same';

CREATE TABLE maps (
    map_id VARCHAR PRIMARY KEY,
    model_id VARCHAR NOT NULL,
    created_at TIMESTAMPTZ,
    is_current BOOLEAN NOT NULL,
    n_tracks INTEGER NOT NULL,
    quality JSON
);
COMMENT ON TABLE maps IS 'Maps of the collection in the plane: the newest one of every model';
COMMENT ON COLUMN maps.map_id IS 'Name of the map';
COMMENT ON COLUMN maps.model_id IS 'The model whose vectors it was drawn from';
COMMENT ON COLUMN maps.created_at IS 'When it was drawn';
COMMENT ON COLUMN maps.is_current IS 'True for the map of the current model';
COMMENT ON COLUMN maps.n_tracks IS 'Number of songs on it';
COMMENT ON COLUMN maps.quality IS 'How well it shows what is similar; see map_history';

CREATE TABLE map_history (
    map_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    drawn_by VARCHAR NOT NULL,
    songs INTEGER NOT NULL,
    new_songs INTEGER NOT NULL,
    gone_songs INTEGER NOT NULL,
    clusters INTEGER NOT NULL,
    noise_share DOUBLE,
    neighbor_recall DOUBLE,
    trustworthiness DOUBLE,
    median_movement DOUBLE,
    procrustes_distance DOUBLE,
    same_cluster_share DOUBLE
);
COMMENT ON TABLE map_history IS 'Every map that was drawn of a model''s vectors, also those that are no more. Two collections of the same songs may have another past';
COMMENT ON COLUMN map_history.map_id IS 'Name of the map; only the newest of a model is in the table maps';
COMMENT ON COLUMN map_history.model_id IS 'The model whose vectors it was drawn from';
COMMENT ON COLUMN map_history.created_at IS 'When it was drawn';
COMMENT ON COLUMN map_history.drawn_by IS 'fit: from nothing, being the first or mostly of other songs; transform: new songs were placed and no other moved; refit: all were laid out, those of before near their places';
COMMENT ON COLUMN map_history.songs IS 'Songs on it';
COMMENT ON COLUMN map_history.new_songs IS 'Songs that the map before did not have';
COMMENT ON COLUMN map_history.gone_songs IS 'Songs that only the map before had';
COMMENT ON COLUMN map_history.clusters IS 'Number of clusters';
COMMENT ON COLUMN map_history.noise_share IS 'Share of songs in no cluster';
COMMENT ON COLUMN map_history.neighbor_recall IS 'Share of the 10 most similar songs that are among the 10 nearest on the map';
COMMENT ON COLUMN map_history.trustworthiness IS '1 if no songs lie near each other that are not similar';
COMMENT ON COLUMN map_history.median_movement IS 'How far songs moved since the map before, as a share of the map''s spread; 0 on a transform';
COMMENT ON COLUMN map_history.procrustes_distance IS 'How much the shape that shared songs make differs from that on the map before, 0 to 1';
COMMENT ON COLUMN map_history.same_cluster_share IS 'Of the songs that were in a cluster on the map before, the share still in it';

CREATE TABLE map_points (
    track_id VARCHAR NOT NULL,
    map_id VARCHAR NOT NULL,
    x DOUBLE NOT NULL,
    y DOUBLE NOT NULL,
    placed_by VARCHAR NOT NULL
);
COMMENT ON TABLE map_points IS 'Where songs lie on a map';
COMMENT ON COLUMN map_points.track_id IS 'The song';
COMMENT ON COLUMN map_points.map_id IS 'The map';
COMMENT ON COLUMN map_points.x IS 'Position from left to right, in no unit';
COMMENT ON COLUMN map_points.y IS 'Position from bottom to top, in no unit';
COMMENT ON COLUMN map_points.placed_by IS 'fit: laid out with the whole map; transform: added later, without moving the others';

CREATE TABLE clusters (
    map_id VARCHAR NOT NULL,
    cluster_id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    size INTEGER NOT NULL,
    medoid_id VARCHAR,
    top_genres VARCHAR[],
    top_artists VARCHAR[]
);
COMMENT ON TABLE clusters IS 'Groups of songs that lie together on a map';
COMMENT ON COLUMN clusters.map_id IS 'The map';
COMMENT ON COLUMN clusters.cluster_id IS 'Number of the group; the same group keeps it from map to map of one model';
COMMENT ON COLUMN clusters.name IS 'Name, from the tags that stand out in it, or else its typical song';
COMMENT ON COLUMN clusters.size IS 'Number of songs in it';
COMMENT ON COLUMN clusters.medoid_id IS 'Its typical song: the one most similar to all others in it';
COMMENT ON COLUMN clusters.top_genres IS 'Genres that stand out in it, the strongest first';
COMMENT ON COLUMN clusters.top_artists IS 'Artists that stand out in it, the strongest first';

CREATE TABLE cluster_members (
    map_id VARCHAR NOT NULL,
    track_id VARCHAR NOT NULL,
    cluster_id INTEGER NOT NULL,
    probability FLOAT NOT NULL
);
COMMENT ON TABLE cluster_members IS 'Which group every song on a map is in';
COMMENT ON COLUMN cluster_members.map_id IS 'The map';
COMMENT ON COLUMN cluster_members.track_id IS 'The song';
COMMENT ON COLUMN cluster_members.cluster_id IS 'The group; -1 if it is in none';
COMMENT ON COLUMN cluster_members.probability IS 'How clearly it belongs there, from 0 to 1';

CREATE TABLE cluster_changes (
    map_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    cluster_id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    other_id INTEGER,
    songs INTEGER NOT NULL
);
COMMENT ON TABLE cluster_changes IS 'What became of clusters, from map to map; when: see map_history';
COMMENT ON COLUMN cluster_changes.map_id IS 'The map on which it shows first';
COMMENT ON COLUMN cluster_changes.model_id IS 'The model of the map';
COMMENT ON COLUMN cluster_changes.cluster_id IS 'The cluster';
COMMENT ON COLUMN cluster_changes.name IS 'Its name then; that of one that is gone, before';
COMMENT ON COLUMN cluster_changes.kind IS 'born: of songs that were new or in no cluster; split: half its songs or more came from another; merged: it is no more, half its songs or more are in another now; died: it is no more, its songs left, or are in none or in several';
COMMENT ON COLUMN cluster_changes.other_id IS 'The cluster it split off or merged into; null for born and died';
COMMENT ON COLUMN cluster_changes.songs IS 'Songs in it; of one that is gone, before';

------------------------------------------------------------------------------------------- views

CREATE VIEW current_embeddings AS
SELECT track_id, vec FROM embeddings WHERE model_id = 'CURRENT_MODEL';
COMMENT ON VIEW current_embeddings IS 'Song vectors of the current model';
COMMENT ON COLUMN current_embeddings.track_id IS 'The song';
COMMENT ON COLUMN current_embeddings.vec IS 'Vector of unit length';

CREATE VIEW current_segments AS
SELECT track_id, start_s, end_s, vec FROM segments WHERE model_id = 'CURRENT_MODEL';
COMMENT ON VIEW current_segments IS 'Vectors of stretches of songs, of the current model';
COMMENT ON COLUMN current_segments.track_id IS 'The song';
COMMENT ON COLUMN current_segments.start_s IS 'Start within the song, in seconds';
COMMENT ON COLUMN current_segments.end_s IS 'End within the song, in seconds';
COMMENT ON COLUMN current_segments.vec IS 'Vector of unit length, in thousandths; the full one is in the Parquet files under vectors';

CREATE VIEW current_neighbors AS
SELECT track_id, rank, neighbor_id, similarity FROM neighbors WHERE model_id = 'CURRENT_MODEL';
COMMENT ON VIEW current_neighbors IS 'The 20 most similar songs of every song, by the current model';
COMMENT ON COLUMN current_neighbors.track_id IS 'The song';
COMMENT ON COLUMN current_neighbors.rank IS '1 for the most similar';
COMMENT ON COLUMN current_neighbors.neighbor_id IS 'The similar song';
COMMENT ON COLUMN current_neighbors.similarity IS 'Cosine similarity, 1 for the same';

CREATE VIEW current_clusters AS
SELECT cluster_id, name, size, medoid_id, top_genres, top_artists FROM clusters
SEMI JOIN (FROM maps WHERE is_current) USING (map_id);
COMMENT ON VIEW current_clusters IS 'Groups of songs on the current map';
COMMENT ON COLUMN current_clusters.cluster_id IS 'Number of the group';
COMMENT ON COLUMN current_clusters.name IS 'Its name';
COMMENT ON COLUMN current_clusters.size IS 'Number of songs in it';
COMMENT ON COLUMN current_clusters.medoid_id IS 'Its typical song';
COMMENT ON COLUMN current_clusters.top_genres IS 'Genres that stand out in it, the strongest first';
COMMENT ON COLUMN current_clusters.top_artists IS 'Artists that stand out in it, the strongest first';

CREATE VIEW songs AS
SELECT
    tracks.track_id, title, artist, artists, album, album_artist, genre, genres, year,
    original_year, track_number, recording_mbid, isrc, duration_s, path, start_s, end_s,
    cluster_id, clusters.name AS cluster, x, y, added_at
FROM tracks
LEFT JOIN (
    SELECT map_points.* FROM map_points SEMI JOIN maps
    ON maps.map_id = map_points.map_id AND maps.is_current
) AS point USING (track_id)
LEFT JOIN cluster_members USING (map_id, track_id)
LEFT JOIN clusters USING (map_id, cluster_id);
COMMENT ON VIEW songs IS 'Start here: every song with its tags, one path, and its place on the current map';
COMMENT ON COLUMN songs.track_id IS 'The song';
COMMENT ON COLUMN songs.title IS 'Title tag, or the file name where there is none';
COMMENT ON COLUMN songs.artist IS 'Artist tag; of several values all, with "; " between them';
COMMENT ON COLUMN songs.artists IS 'Every artist by itself, in the order of the tag; empty if there is none';
COMMENT ON COLUMN songs.album IS 'Album tag';
COMMENT ON COLUMN songs.album_artist IS 'Album artist tag';
COMMENT ON COLUMN songs.genre IS 'Genre tag; of several values all, with "; " between them';
COMMENT ON COLUMN songs.genres IS 'Every genre by itself, in the order of the tag; empty if there is none';
COMMENT ON COLUMN songs.year IS 'Year tag';
COMMENT ON COLUMN songs.original_year IS 'Year of the first release, where a tag says so; year is that of this one';
COMMENT ON COLUMN songs.track_number IS 'Track number tag';
COMMENT ON COLUMN songs.recording_mbid IS 'Identifier of the recording in MusicBrainz';
COMMENT ON COLUMN songs.isrc IS 'International Standard Recording Code, twelve characters';
COMMENT ON COLUMN songs.duration_s IS 'Length in seconds';
COMMENT ON COLUMN songs.path IS 'Absolute path of one of its files';
COMMENT ON COLUMN songs.start_s IS 'Where it begins in that file, in seconds, if a CUE sheet says that there are several songs in it; else null';
COMMENT ON COLUMN songs.end_s IS 'Where it ends there; null if the file ends with it';
COMMENT ON COLUMN songs.cluster_id IS 'Group on the current map; -1 if in none, null if not on the map';
COMMENT ON COLUMN songs.cluster IS 'Name of that group';
COMMENT ON COLUMN songs.x IS 'Position on the current map, from left to right';
COMMENT ON COLUMN songs.y IS 'Position on the current map, from bottom to top';
COMMENT ON COLUMN songs.added_at IS 'When it was first seen; a song that was moved, renamed or retagged, or that left and came back, keeps that';

------------------------------------------------------------------------------------------ macros
-- Parameters hide columns of the same name, so columns are written with their table's name.
-- IN (SELECT ...) rather than = lets DuckDB skip blocks of vectors by their ids: 2 ms and not 15.

CREATE MACRO track_of(song) AS coalesce(
    (SELECT tracks.track_id FROM tracks WHERE tracks.track_id = song),
    (SELECT min_by(tracks.track_id, (tracks.artist, tracks.track_id)) FROM tracks
     WHERE lower(tracks.title) = lower(song)),
    error('no song has this id or title: ' || coalesce(song, 'NULL') || '. Try: FROM find_song(''...'')')
);
COMMENT ON MACRO track_of IS 'track_of(song): the track_id that a track_id or a title stands for; an error if there is none';

CREATE MACRO sound_of(song) AS coalesce(
    (SELECT mine.track_id FROM current_embeddings AS mine WHERE mine.track_id IN (SELECT track_of(song))),
    error('the sound of ' || song || ' is not known. Try: FROM failures')
);
COMMENT ON MACRO sound_of IS 'sound_of(song): the track_id that a track_id or a title stands for, if the song has a vector of the current model; else an error';

CREATE MACRO find_song(words) AS TABLE
WITH named AS (
    SELECT
        tracks.*,
        lower(strip_accents(tracks.title)) AS plain_title,
        lower(strip_accents(concat_ws(' ', tracks.artist, tracks.title, tracks.album))) AS plain,
        -- Of several artists each may be meant.
        [lower(strip_accents(concat_ws(' ', one, tracks.title, tracks.album)))
         FOR one IN tracks.artists IF one <> tracks.artist] AS plain_by_each,
        lower(strip_accents(trim(words))) AS wanted
    FROM tracks
), scored AS (
    SELECT
        *,
        greatest(
            list_avg([CASE WHEN contains(plain, word) OR contains(array_to_string(plain_by_each, chr(10)), word)
                      THEN 1 ELSE 0 END
                      FOR word IN string_split_regex(wanted, '[^\p{L}\p{N}]+') IF word <> '']),
            jaro_winkler_similarity(plain_title, wanted),
            jaro_winkler_similarity(plain, wanted),
            list_max([jaro_winkler_similarity(each, wanted) FOR each IN plain_by_each])
        ) + CASE WHEN plain_title = wanted THEN 1 ELSE 0 END AS score
    FROM named
)
SELECT track_id, title, artist, album, path, score, genre, year FROM scored
WHERE score > 0.8 ORDER BY score DESC, artist, title, track_id LIMIT 20;
COMMENT ON MACRO TABLE find_song IS 'find_song(words): up to 20 songs whose title, artist or album is like the words, best first; a score of 1 has all of the words in it, one above 1 that very title';

CREATE MACRO similar_to(song, k := 10) AS TABLE
WITH wanted AS MATERIALIZED (
    SELECT mine.track_id AS wanted_id, mine.vec AS wanted_vec
    FROM current_embeddings AS mine WHERE mine.track_id IN (SELECT sound_of(song))
), best AS (
    SELECT other.track_id, array_inner_product(other.vec, wanted.wanted_vec) AS similarity
    FROM current_embeddings AS other, wanted WHERE other.track_id <> wanted.wanted_id
    ORDER BY similarity DESC, other.track_id LIMIT k
)
SELECT
    best.track_id, tracks.title, tracks.artist, tracks.album, best.similarity, tracks.path,
    tracks.genre, tracks.year
FROM best JOIN tracks USING (track_id) ORDER BY best.similarity DESC, best.track_id;
COMMENT ON MACRO TABLE similar_to IS 'similar_to(song, k := 10): the k songs most similar to a song, given by track_id or title';

CREATE MACRO mean_of(ids) AS (
    SELECT list(part ORDER BY number)::FLOAT[D] FROM (
        SELECT each.number, avg(each.part) AS part FROM (
            SELECT unnest(e.vec) AS part, generate_subscripts(e.vec, 1) AS number
            FROM current_embeddings AS e WHERE e.track_id IN (SELECT unnest(ids))
        ) AS each GROUP BY each.number
    )
);
COMMENT ON MACRO mean_of IS 'mean_of([track_id, ...]): the average of vectors of songs, each taken once; its inner product with another vector is how alike they are to that on average';

CREATE MACRO similar_to_all(songs, k := 10) AS TABLE
WITH wanted AS MATERIALIZED (
    SELECT list(sound_of(name)) AS wanted_ids FROM unnest(songs) AS given(name)
), middle AS MATERIALIZED (
    SELECT mean_of(wanted.wanted_ids) AS mean_vec FROM wanted
), best AS (
    SELECT other.track_id, array_inner_product(other.vec, middle.mean_vec)::DOUBLE AS similarity
    FROM current_embeddings AS other, middle
    WHERE middle.mean_vec IS NOT NULL
        AND other.track_id NOT IN (SELECT unnest(wanted.wanted_ids) FROM wanted)
    ORDER BY similarity DESC, other.track_id LIMIT k
)
SELECT
    best.track_id, tracks.title, tracks.artist, tracks.album, best.similarity, tracks.path,
    tracks.genre, tracks.year
FROM best JOIN tracks USING (track_id) ORDER BY best.similarity DESC, best.track_id;
COMMENT ON MACRO TABLE similar_to_all IS 'similar_to_all([song, ...], k := 10): the k songs most similar, on average, to several songs given by track_id or title';

-- Ends of moments are in hundredths, rounded down: a song's own duration_s is a second of it.
CREATE MACRO moment_of(song, at_s) AS CASE
    WHEN at_s BETWEEN 0 AND (SELECT max(s.end_s) + 0.01 FROM current_segments AS s
                             WHERE s.track_id IN (SELECT track_of(song))) THEN at_s::DOUBLE
    ELSE error(coalesce(
        (SELECT 'no second ' || coalesce(at_s::VARCHAR, 'NULL') || ' in ' || song || ', which ends at second ' || max(s.end_s)
         FROM current_segments AS s WHERE s.track_id IN (SELECT track_of(song))),
        'the sound of ' || song || ' is not known. Try: FROM failures'))
END;
COMMENT ON MACRO moment_of IS 'moment_of(song, at_s): at_s, if it is a second of a song given by track_id or title; else an error';

CREATE MACRO sketch_distance(a, b) AS
    bit_count(xor(a['w1'], b['w1']))::SMALLINT + bit_count(xor(a['w2'], b['w2']))
    + bit_count(xor(a['w3'], b['w3'])) + bit_count(xor(a['w4'], b['w4']))
    + bit_count(xor(a['w5'], b['w5'])) + bit_count(xor(a['w6'], b['w6']))
    + bit_count(xor(a['w7'], b['w7'])) + bit_count(xor(a['w8'], b['w8']));
COMMENT ON MACRO sketch_distance IS 'sketch_distance(a, b): how many bits of two sketches of segments differ: 0 for the same, about 256 for vectors at right angles';

-- Of more than 200,000 moments, those are compared whose sketches are nearest: one in a hundred. If
-- they are of too few songs for that, all are.
CREATE MACRO similar_segments(song, at_s, k := 10) AS TABLE
WITH wanted AS MATERIALIZED (
    SELECT mine.track_id AS wanted_id, mine.vec AS wanted_vec, mine.sketch AS wanted_sketch
    FROM segments AS mine
    WHERE mine.model_id = 'CURRENT_MODEL'
        AND mine.track_id IN (SELECT track_of(song) WHERE moment_of(song, at_s) IS NOT NULL)
    ORDER BY abs((mine.start_s + mine.end_s) / 2 - at_s) LIMIT 1
), many AS MATERIALIZED (
    SELECT greatest(counted.n // 100, 10_000) AS compared
    FROM (SELECT count(*) AS n FROM segments) AS counted WHERE counted.n > 200_000
), sketched AS MATERIALIZED (
    SELECT other.rowid AS row_id, sketch_distance(other.sketch, wanted.wanted_sketch) AS distance
    FROM segments AS other, wanted, many WHERE other.model_id = 'CURRENT_MODEL'
), picked AS MATERIALIZED (
    -- As one list, lest DuckDB takes it for more rows than there are, and reads every vector.
    SELECT list(s.row_id) AS row_ids FROM sketched AS s WHERE s.distance <= (
        SELECT min(up_to.distance) FROM (
            SELECT t.distance, sum(count(*)) OVER (ORDER BY t.distance) AS n
            FROM sketched AS t GROUP BY t.distance
        ) AS up_to, many WHERE up_to.n >= many.compared)
), near AS MATERIALIZED (
    SELECT
        other.track_id, other.start_s AS from_s, other.end_s AS to_s,
        array_inner_product(other.vec, wanted.wanted_vec) AS similarity
    FROM segments AS other, wanted
    WHERE other.rowid IN (SELECT unnest(p.row_ids) FROM picked AS p)
), few AS MATERIALIZED (
    FROM wanted WHERE (SELECT count(DISTINCT near.track_id) FROM near) < 10 * k
), moments AS (
    FROM near WHERE NOT EXISTS (FROM few)
    UNION ALL
    SELECT
        other.track_id, other.start_s AS from_s, other.end_s AS to_s,
        array_inner_product(other.vec, few.wanted_vec) AS similarity
    FROM current_segments AS other, few
), best AS (
    SELECT
        moments.track_id, max(moments.similarity) AS similarity,
        max_by((moments.from_s, moments.to_s), moments.similarity) AS span
    FROM moments GROUP BY moments.track_id
    HAVING moments.track_id NOT IN (SELECT w.wanted_id FROM wanted AS w)
    ORDER BY similarity DESC, moments.track_id LIMIT k
)
SELECT
    best.track_id, tracks.title, tracks.artist, best.span[1] AS from_s, best.span[2] AS to_s,
    best.similarity, tracks.path, tracks.genre, tracks.year
FROM best JOIN tracks USING (track_id) ORDER BY best.similarity DESC, best.track_id;
COMMENT ON MACRO TABLE similar_segments IS 'similar_segments(song, at_s, k := 10): the moment of each of k other songs that is most similar to the moment at at_s seconds of a song given by track_id or title';

CREATE MACRO songs_between(first_song, last_song, k := 8) AS TABLE
WITH RECURSIVE ends AS MATERIALIZED (
    SELECT
        sound_of(first_song) AS a_id,
        sound_of(last_song) AS b_id,
        (SELECT a.vec FROM current_embeddings AS a WHERE a.track_id IN (SELECT sound_of(first_song))) AS a_vec,
        (SELECT b.vec FROM current_embeddings AS b WHERE b.track_id IN (SELECT sound_of(last_song))) AS b_vec
), nearness AS MATERIALIZED (
    SELECT
        other.track_id AS near_id,
        array_inner_product(other.vec, ends.a_vec) AS to_a,
        array_inner_product(other.vec, ends.b_vec) AS to_b
    FROM current_embeddings AS other, ends
    WHERE other.track_id NOT IN (ends.a_id, ends.b_id)
), way AS (
    -- At each of k evenly spaced stops from a to b, the most similar song not yet taken.
    SELECT 0 AS stop, NULL::VARCHAR AS stop_id, []::VARCHAR[] AS taken
    UNION ALL
    SELECT
        way.stop + 1,
        max_by(near_id, to_a + (to_b - to_a) * (way.stop + 1) / (k + 1)) AS found,
        list_append(way.taken, found)
    FROM way, nearness WHERE way.stop < k AND NOT list_contains(way.taken, near_id)
    GROUP BY way.stop, way.taken
)
SELECT
    way.stop, tracks.track_id, tracks.title, tracks.artist, tracks.album,
    nearness.to_a AS similarity_to_first, nearness.to_b AS similarity_to_last, tracks.path,
    tracks.genre, tracks.year
FROM way JOIN tracks ON tracks.track_id = way.stop_id JOIN nearness ON near_id = way.stop_id
ORDER BY way.stop;
COMMENT ON MACRO TABLE songs_between IS 'songs_between(first_song, last_song, k := 8): k songs that lead from one song to another, in order; both given by track_id or title';

CREATE MACRO is_by(artist, artists, name) AS
    coalesce(lower(artist) = lower(name), false)
    OR list_contains([lower(one) FOR one IN artists], lower(name));
COMMENT ON MACRO is_by IS 'is_by(artist, artists, name): whether a song with this artist tag is by someone, alone or with others';

CREATE MACRO songs_by(name) AS TABLE
SELECT
    tracks.track_id, tracks.title, tracks.artist, tracks.album, tracks.year, tracks.original_year,
    coalesce(lower(tracks.artists[1]) <> lower(name), false)
    AND coalesce(lower(tracks.artist) <> lower(name), false) AS with_others_first, tracks.path,
    tracks.genre
FROM tracks WHERE is_by(tracks.artist, tracks.artists, name)
ORDER BY coalesce(tracks.original_year, tracks.year), tracks.album, tracks.track_number, tracks.title, tracks.track_id;
COMMENT ON MACRO TABLE songs_by IS 'songs_by(name): the songs of an artist, the earliest first; with_others_first if someone else is named before them';

CREATE MACRO artist_of(name) AS CASE
    WHEN EXISTS (FROM tracks AS t WHERE is_by(t.artist, t.artists, name)) THEN name::VARCHAR
    ELSE error('no song is by ' || coalesce(name, 'NULL') || '. Try: FROM find_song(''...'')')
END;
COMMENT ON MACRO artist_of IS 'artist_of(name): the name, if any song is by someone of that name, alone or with others; else an error';

CREATE MACRO artists_like(name, k := 10) AS TABLE
WITH mine AS MATERIALIZED (
    SELECT mean_of(list(t.track_id)) AS mine_vec FROM (SELECT artist_of(name) AS known) AS given, tracks AS t
    WHERE is_by(t.artist, t.artists, given.known)
), theirs AS MATERIALIZED (
    SELECT t.track_id AS their_id, unnest(t.artists) AS their_name FROM tracks AS t
    WHERE NOT coalesce(is_by(t.artist, t.artists, name), false)
), alike AS MATERIALIZED (
    SELECT other.track_id AS their_id, array_inner_product(other.vec, mine.mine_vec) AS similarity
    FROM current_embeddings AS other, mine WHERE mine.mine_vec IS NOT NULL
)
SELECT
    theirs.their_name AS artist, count(DISTINCT theirs.their_id) AS songs,
    avg(alike.similarity) AS similarity
FROM alike JOIN theirs USING (their_id)
GROUP BY theirs.their_name ORDER BY similarity DESC, theirs.their_name LIMIT k;
COMMENT ON MACRO TABLE artists_like IS 'artists_like(name, k := 10): the artists whose songs are, on average, most similar to those of one; songs that they made together do not count';

CREATE MACRO outliers(k := 20) AS TABLE
SELECT
    tracks.track_id, tracks.title, tracks.artist, tracks.album, avg(n.similarity) AS similarity, tracks.path,
    tracks.genre, tracks.year
FROM current_neighbors AS n JOIN tracks USING (track_id) WHERE n.rank <= 5
GROUP BY ALL ORDER BY avg(n.similarity), tracks.track_id LIMIT k;
COMMENT ON MACRO TABLE outliers IS 'outliers(k := 20): the songs least like anything else: those with the lowest average similarity to their five nearest';

CREATE MACRO near_duplicates(at_least := 0.995) AS TABLE
SELECT
    n.similarity, a.track_id, a.title, a.artist, a.path,
    b.track_id AS other_id, b.title AS other_title, b.artist AS other_artist, b.path AS other_path
FROM current_neighbors AS n
JOIN tracks AS a ON a.track_id = n.track_id
JOIN tracks AS b ON b.track_id = n.neighbor_id
WHERE n.similarity >= at_least
    AND (n.track_id < n.neighbor_id OR NOT EXISTS (
        FROM current_neighbors AS back
        WHERE back.track_id = n.neighbor_id AND back.neighbor_id = n.track_id))
ORDER BY n.similarity DESC, a.track_id, b.track_id;
COMMENT ON MACRO TABLE near_duplicates IS 'near_duplicates(at_least := 0.995): pairs of different recordings that sound almost the same; look before you delete';

CREATE MACRO model_of(model) AS CASE
    WHEN EXISTS (FROM neighbors AS n WHERE n.model_id = model) THEN model::VARCHAR
    ELSE error('no model with a map has this name: ' || coalesce(model, 'NULL') || '. Try: SELECT model_id FROM maps')
END;
COMMENT ON MACRO model_of IS 'model_of(model): the name, if a model of that name has neighbours here; else an error';

CREATE MACRO model_overlap(model_a, model_b, k := 10) AS TABLE
SELECT
    count(DISTINCT a.track_id) AS songs,
    count(b.neighbor_id) / nullif(count(*), 0) AS overlap
FROM (SELECT model_of(model_a) AS of_a, model_of(model_b) AS of_b) AS given, neighbors AS a
SEMI JOIN (SELECT track_id FROM neighbors WHERE model_id = model_of(model_b)) AS shared USING (track_id)
LEFT JOIN neighbors AS b
    ON b.model_id = model_b AND b.track_id = a.track_id
    AND b.neighbor_id = a.neighbor_id AND b.rank <= k
WHERE a.model_id = given.of_a AND a.rank <= k;
COMMENT ON MACRO TABLE model_overlap IS 'model_overlap(model_a, model_b, k := 10): share of the k nearest songs on which two models agree, 0 to 1';

-- Playlists. At every place stands the most similar song of those whose artist has not been heard
-- for longest, counted up to `apart` songs: an artist comes again only when so many places have
-- passed, or when no one else is left; of several artists each counts. Where there is no artist
-- tag, a folder is taken for one.

CREATE MACRO in_turn(first_id, last_id, group_id, k, apart, without) AS TABLE
WITH RECURSIVE unwanted AS MATERIALIZED (
    SELECT track_of(name) AS unwanted_id FROM unnest(without::VARCHAR[]) AS given(name)
), ends AS MATERIALIZED (
    SELECT a.track_id AS a_id, a.vec AS a_vec, b.track_id AS b_id, b.vec AS b_vec
    FROM (SELECT first_id AS a_id, nullif(last_id, first_id) AS b_id) AS given
    JOIN current_embeddings AS a ON a.track_id = given.a_id
    LEFT JOIN current_embeddings AS b ON b.track_id = given.b_id
), pool AS MATERIALIZED (
    SELECT
        tracks.track_id AS song_id,
        regexp_replace(tracks.path, '/[^/]*$', '') AS folder,
        CASE WHEN len(tracks.artists) = 0 THEN [lower(folder)]
             ELSE [lower(one) FOR one IN tracks.artists] END AS whose,
        whose[1] || chr(10) || lower(tracks.title) AS called,
        array_inner_product(other.vec, ends.a_vec) AS to_a,
        coalesce(array_inner_product(other.vec, ends.b_vec), to_a) AS to_b,
        CASE song_id WHEN a_id THEN 'first' WHEN b_id THEN 'last' ELSE 'between' END AS part
    FROM ends, current_embeddings AS other JOIN tracks USING (track_id)
    WHERE tracks.track_id NOT IN (FROM unwanted) AND (group_id IS NULL OR part <> 'between'
        OR tracks.track_id IN (
            SELECT m.track_id FROM cluster_members AS m SEMI JOIN (FROM maps WHERE is_current) USING (map_id)
            WHERE m.cluster_id = group_id))
), frame AS MATERIALIZED (
    SELECT
        k - count(*) AS room, coalesce(list(called), []) AS names,
        any_value(whose) FILTER (part = 'first') AS opener,
        any_value(whose) FILTER (part = 'last') AS closer
    FROM pool WHERE part <> 'between'
), way AS (
    -- Where the best of the few hundred nearest is by an artist not heard for long enough, no song
    -- of all can be better. Where it is not, a row says to take all, and is no place in the list.
    SELECT
        0 AS stop, false AS of_all, NULL::STRUCT(song VARCHAR, called VARCHAR, whose VARCHAR[]) AS song,
        names AS taken, [opener] AS played
    FROM frame
    UNION ALL
    SELECT
        stop + is_sure::INTEGER, NOT is_sure, found,
        CASE WHEN is_sure THEN list_append(taken, found['called']) ELSE taken END,
        CASE WHEN is_sure THEN list_prepend(found['whose'], played) ELSE played END
    FROM (
        SELECT
            stop, of_all, taken, played,
            max_by(struct_pack(song := song_id, called := called, whose := whose), merit) AS found,
            max(merit) AS best,
            of_all OR coalesce(best['is_new'] AND best['gap'] = apart, false) AS is_sure
        FROM (
            SELECT
                stop, of_all, taken, played, song_id, called, whose, struct_pack(
                    is_new := coalesce(NOT list_contains(taken, called), false),
                    gap := least(apart,
                                 coalesce(list_position([list_has_any(them, whose) FOR them IN played[:apart]], true), apart),
                                 CASE WHEN list_has_any(whose, closer) THEN room - stop ELSE apart END),
                    nearness := nearness,
                    tie := song_id) AS merit
            FROM (
                (SELECT way.*, pool.*, room, closer, to_a + (to_b - to_a) * (way.stop + 1) / (room + 1) AS nearness
                 FROM way, frame, pool
                 WHERE way.stop < room AND NOT way.of_all AND part = 'between'
                 ORDER BY nearness DESC, song_id DESC LIMIT 500)
                UNION ALL
                SELECT way.*, pool.*, room, closer, to_a + (to_b - to_a) * (way.stop + 1) / (room + 1)
                FROM way, frame, pool
                WHERE way.stop < room AND way.of_all AND part = 'between'
            )
        ) GROUP BY stop, of_all, taken, played
    ) WHERE best['is_new'] OR NOT of_all
), placed AS (
    SELECT CASE part WHEN 'first' THEN 0 ELSE k END AS stop, song_id FROM pool WHERE part <> 'between'
    UNION ALL SELECT way.stop, way.song['song'] FROM way WHERE way.stop > 0 AND NOT way.of_all
)
SELECT
    row_number() OVER (ORDER BY placed.stop) AS place, tracks.track_id, tracks.title, tracks.artist,
    tracks.album, tracks.duration_s, tracks.path, tracks.genre, tracks.year
FROM placed JOIN tracks ON tracks.track_id = placed.song_id ORDER BY place LIMIT k;
COMMENT ON MACRO TABLE in_turn IS 'in_turn(first_id, last_id, group_id, k, apart, without): what the playlist_ macros have in common; last_id and group_id may be null';

CREATE MACRO playlist_like(song, k := 20, apart := 4, without := []) AS TABLE
FROM in_turn(sound_of(song), NULL, NULL, k, apart, without);
COMMENT ON MACRO TABLE playlist_like IS 'playlist_like(song, k := 20, apart := 4, without := []): a song and those like it, in the order to hear them in; an artist at most once in any `apart` songs where possible, no song twice, none of those in `without`';

CREATE MACRO playlist_between(first_song, last_song, k := 20, apart := 4, without := []) AS TABLE
FROM in_turn(sound_of(first_song), sound_of(last_song), NULL, k, apart, without);
COMMENT ON MACRO TABLE playlist_between IS 'playlist_between(first_song, last_song, k := 20, apart := 4, without := []): k songs that lead from one song to another, both among them';

CREATE MACRO cluster_of(cluster_name) AS coalesce(
    (SELECT min_by(c.cluster_id, (c.name <> cluster_name, c.cluster_id))
     FROM current_clusters AS c WHERE lower(c.name) = lower(cluster_name)),
    error('no cluster has this name: ' || coalesce(cluster_name, 'NULL') || '. Try: FROM current_clusters')
);
COMMENT ON MACRO cluster_of IS 'cluster_of(cluster_name): the cluster_id on the current map that a name stands for; an error if there is none';

CREATE MACRO playlist_cluster(cluster_name, k := 20, apart := 4, without := []) AS TABLE
FROM in_turn(
    -- Its typical song may have left the collection since the map was drawn.
    (SELECT coalesce(any_value(c.medoid_id), min(s.track_id))
     FROM current_clusters AS c JOIN songs AS s USING (cluster_id) JOIN current_embeddings USING (track_id)
     WHERE c.cluster_id = cluster_of(cluster_name)),
    NULL, cluster_of(cluster_name), k, apart, without);
COMMENT ON MACRO TABLE playlist_cluster IS 'playlist_cluster(cluster_name, k := 20, apart := 4, without := []): the typical song of a cluster, given by name, and those of its songs that are most like it';

CREATE MACRO playlist_surprise(seed := NULL, k := 20, apart := 4, without := []) AS TABLE
WITH thrown AS MATERIALIZED (
    SELECT e.track_id AS thrown_id, e.vec AS thrown_vec, row_number() OVER (
        ORDER BY hash(concat(e.track_id, ' ', dice.seed_thrown)), e.track_id) AS number
    FROM current_embeddings AS e, (SELECT coalesce(seed, random()) AS seed_thrown) AS dice
    QUALIFY number <= 10
)
FROM in_turn(
    (SELECT thrown_id FROM thrown WHERE number = 1),
    (SELECT b.thrown_id FROM thrown AS a, thrown AS b WHERE a.number = 1
     ORDER BY array_inner_product(a.thrown_vec, b.thrown_vec), b.thrown_id LIMIT 1),
    NULL, k, apart, without);
COMMENT ON MACRO TABLE playlist_surprise IS 'playlist_surprise(seed := NULL, k := 20, apart := 4, without := []): songs that lead from one picked at random to the least similar of nine others; the same again for the same seed';

CREATE MACRO playlist_new(since, k := 20, without := []) AS TABLE
WITH unwanted AS MATERIALIZED (
    SELECT track_of(name) AS unwanted_id FROM unnest(without::VARCHAR[]) AS given(name)
), pool AS MATERIALIZED (
    -- Of a song in several editions the one that came last.
    SELECT
        t.track_id AS song_id, coalesce(t.added_at >= since::TIMESTAMPTZ, false) AS is_new,
        row_number() OVER (ORDER BY t.added_at DESC NULLS LAST, t.track_id) AS age
    FROM tracks AS t SEMI JOIN current_embeddings AS e USING (track_id)
    WHERE t.track_id NOT IN (FROM unwanted)
    QUALIFY row_number() OVER (
        PARTITION BY coalesce(lower(t.artist), t.track_id), lower(t.title)
        ORDER BY t.added_at DESC NULLS LAST, t.track_id) = 1
), frame AS (
    SELECT greatest((k - count(*)) // nullif(count(*), 0), 1) AS room FROM pool WHERE is_new
), liked AS (
    -- Each older song goes with the new one that it is most like.
    SELECT n.track_id AS new_id, n.neighbor_id AS like_id, n.similarity AS nearness
    FROM current_neighbors AS n
    SEMI JOIN (FROM pool WHERE is_new) AS fresh ON fresh.song_id = n.track_id
    SEMI JOIN (FROM pool WHERE NOT is_new) AS known ON known.song_id = n.neighbor_id
    QUALIFY row_number() OVER (PARTITION BY like_id ORDER BY nearness DESC, new_id) = 1
), placed AS (
    SELECT song_id, age, 0 AS after FROM pool WHERE is_new
    UNION ALL
    SELECT like_id, age, row_number() OVER (PARTITION BY new_id ORDER BY nearness DESC, like_id) AS after
    FROM liked JOIN pool ON song_id = new_id, frame QUALIFY after <= room
)
SELECT
    row_number() OVER (ORDER BY placed.age, placed.after) AS place, tracks.track_id, tracks.title,
    tracks.artist, tracks.album, tracks.duration_s, tracks.path, tracks.genre, tracks.year,
    placed.after = 0 AS is_new
FROM placed JOIN tracks ON tracks.track_id = placed.song_id ORDER BY place LIMIT k;
COMMENT ON MACRO TABLE playlist_new IS 'playlist_new(since, k := 20, without := []): the songs that were added since a date or time, the newest first, each followed by older songs like it, of which there are the more the fewer are new; none of those in `without`';
