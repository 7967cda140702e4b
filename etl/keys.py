"""Where the vendors' keys are kept: the environment, or the operating system's keyring."""

from __future__ import annotations

import os

__all__ = ["KEYRING_SERVICE", "databento_key"]

#: ``keyring set hydra-lake databento`` stores Databento's key.
KEYRING_SERVICE = "hydra-lake"


def databento_key() -> str:
    """Databento's API key; empty when there is none.  A blank one is none.

    ``DATABENTO_API_KEY`` comes first, then the keyring, where the package ``keyring`` is installed.
    """
    return os.environ.get("DATABENTO_API_KEY", "").strip() or _from_keyring("databento")


def _from_keyring(name: str) -> str:
    try:
        import keyring
    except ImportError:
        return ""
    from keyring.errors import KeyringError

    try:
        return (keyring.get_password(KEYRING_SERVICE, name) or "").strip()
    except KeyringError:  # no keyring here, or one that is locked
        return ""
