"""``nitro-cli``: AWS's grammar, texts, JSON and exit codes (nitro-cli 1.5.0), one file a verb."""
