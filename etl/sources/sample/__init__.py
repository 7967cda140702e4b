"""The sample vendor: a deterministic, synthetic world in the vendors' own file formats.

``fetch`` writes DBN files and ``fetch_cot`` the CFTC's yearly zips; both go through the same
decoders as real data.  ``truth`` says what the world is, for tests to compare with.
"""

from etl.sources.sample.cot_file import cot_options, fetch_cot
from etl.sources.sample.products import PRODUCTS
from etl.sources.sample.truth import Truth, truth
from etl.sources.sample.vendor import fetch

__all__ = ["MARKETS", "Truth", "cot_options", "fetch", "fetch_cot", "truth"]

#: Codes of the markets that the vendor has.
MARKETS = tuple(PRODUCTS)
