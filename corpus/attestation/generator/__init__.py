"""Make attestation documents that are right, and ones that are wrong in exactly one way."""
