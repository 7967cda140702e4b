"""The whole pipeline over generated lakes, beside its peers: ``make bench``.

Every measurement runs in a process of its own, with one environment for all, so that its time and
its peak of memory are its own.
"""
