"""The peers, a module each: ``PACKAGES``, whose versions are reported, and ``measure(sizes)``.

A module imports its peer at the top: what cannot be imported is reported with the reason.
"""

from __future__ import annotations

#: Modules in the order of the report, by the name that the report gives them.
PEERS = {
    "PyFENG": "pyfeng",
    "py_vollib_vectorized": "vollib_vectorized",
    "QuantLib": "quantlib",
    "scipy": "scipy",
    "oipd": "oipd",
    "scalar Python loop": "scalar_loop",
    "DuckDB UDF": "duckdb_udf",
}
