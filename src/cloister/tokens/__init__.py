"""Keys that never leave their token: named by a PKCS#11 URI, asked for one signature at a time.

The library, python-pkcs11, is the optional extra ``pkcs11``.
"""

from cloister.tokens.key import KeyOnToken
from cloister.tokens.uri import Ask, TokenError, TokenUri

__all__ = ["Ask", "KeyOnToken", "TokenError", "TokenUri"]
