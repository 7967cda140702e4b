"""Databento and the CFTC on loopback, answering the real clients with the sample vendor's data.

``Vendors`` is an HTTPS proxy that takes the place of the vendors' hosts: a process that gets
``Vendors.env`` as its environment reaches nothing but it, through unmodified clients.  Synchronous
calls honour that environment (``requests``); databento's ``…_async`` calls do not (``aiohttp``
reads no proxy from the environment) and stay unserved.
"""

from tests.vendors.vendors import KEY, Asked, Vendors

__all__ = ["KEY", "Asked", "Vendors"]
