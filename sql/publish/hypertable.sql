-- Make an empty table a hypertable by as_of, a chunk a year: a market has few rows a day.
select
    %(timescale)s.create_hypertable(
        relation => %(target)s::regclass,
        time_column_name => 'as_of',
        chunk_time_interval => interval '1 year',
        create_default_indexes => false
    )
