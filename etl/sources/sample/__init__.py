"""The sample vendor: a deterministic, synthetic world in the vendors' own file formats.

``fetch`` writes DBN files and ``fetch_cot`` the CFTC's yearly zips; both go through the same
decoders as real data.  ``truth`` says what the world is, for tests to compare with.  With a
seed both plant faults, which ``planted`` and ``withheld`` list.
"""

from etl.sources.sample.chaos import KINDS, Fault
from etl.sources.sample.cot_file import cot_options, fetch_cot, withheld
from etl.sources.sample.products import PRODUCTS
from etl.sources.sample.truth import Truth, truth
from etl.sources.sample.vendor import fetch, planted

__all__ = [
    "KINDS",
    "MARKETS",
    "Fault",
    "Truth",
    "cot_options",
    "fetch",
    "fetch_cot",
    "planted",
    "truth",
    "withheld",
]

#: Codes of the markets that the vendor has.
MARKETS = tuple(PRODUCTS)
