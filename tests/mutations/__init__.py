"""A million documents that are each a little wrong, and what must become of every one of them.

``mutate(seed, index, corpus)`` makes one, the same one every time; ``judge`` holds the verifier's answer
against an oracle; ``PYTHONPATH=tests python -m mutations`` runs campaigns and prints single mutations again.
"""
