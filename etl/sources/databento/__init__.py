"""Databento's Historical API: what to ask for and its price, downloads, and missing roots."""

from __future__ import annotations

from etl.sources.databento.ask import Asker, Tell, Unresolved, connect
from etl.sources.databento.download import Fetched, fetch
from etl.sources.databento.plan import (
    QUOTES,
    Condition,
    Offer,
    Priced,
    Request,
    offer,
    price,
    requests,
    schemas,
    series,
)
from etl.sources.databento.roots import Root, day_of_definitions, missing_roots

__all__ = [
    "QUOTES",
    "Asker",
    "Condition",
    "Fetched",
    "Offer",
    "Priced",
    "Request",
    "Root",
    "Tell",
    "Unresolved",
    "connect",
    "day_of_definitions",
    "fetch",
    "missing_roots",
    "offer",
    "price",
    "requests",
    "schemas",
    "series",
]
