"""DBN files into Parquet, beside the two ways that the vendor's client has: ``make bench-decode``.

Each way runs in a process of its own each time, so that its peak of memory is its own.
"""
