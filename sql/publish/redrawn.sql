-- Take away the points of a slice that is incoming with other strikes, vintage by vintage.
delete from %(target)s
where (%(slice)s) in (select %(slice)s from incoming)
    and (%(slice)s, strike) not in (select %(slice)s, strike from incoming)
