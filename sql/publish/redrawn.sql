-- Take away the points of a slice that is incoming with other strikes, vintage by vintage.
delete from %(target)s
where (%(slice)s) in (select %(slice)s from incoming)
    and (%(key)s) in (
        select %(key)s from %(target)s
        except
        select %(key)s from incoming
    )
