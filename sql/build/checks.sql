-- What the checks found, one row a finding: which check, how severe, where and why.
create table quality.checks (
    check_name varchar,
    severity varchar,
    market varchar,
    session_date date,
    subject varchar,
    reason varchar
);
