"""Channel expansion as one SQL query over Parquet files: what the `channel_expansion` step is held against.

    .cache/venv/bin/python tests/readers/expansion.py CATALOGUE MEDICAL MIN_VIDEOS MIN_SHARE

Prints a line `id|is_medical|title` for each video that must be listed, sorted.
"""

import sys

import duckdb

QUERY = """
with record as (
    select id, coalesce(channel_id, uploader_id, 'alone:' || id) as channel, title, false as medical
    from read_parquet($catalogue || '/*.parquet') where id is not null
    union all
    select id, coalesce(channel_id, uploader_id, 'alone:' || id), title, true
    from read_parquet($medical || '/*.parquet') where id is not null
),
good as (
    select channel from record group by channel
    having count(distinct id) filter (medical) >= $videos
       and count(distinct id) filter (medical) >= $share * count(distinct id)
),
listed as (select distinct channel, id from record where medical or channel in (from good))
select id || '|' || bool_or(medical) || '|' || min(title) from record join listed using (channel, id) group by id order by 1
"""

catalogue, medical, videos, share = sys.argv[1:]
values = {"catalogue": catalogue, "medical": medical, "videos": int(videos), "share": float(share)}
for (line,) in duckdb.execute(QUERY, values).fetchall():
    print(line)
