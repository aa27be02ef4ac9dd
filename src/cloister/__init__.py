"""Cloister: an open implementation of AWS Nitro Enclaves for any Linux machine."""

__version__ = "0.1.0"
