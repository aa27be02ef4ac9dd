"""What every test may ask for."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_VECTORS = REPOSITORY.parent / "shared" / "vectors"


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Genuine AWS bytes, which live beside the repository and are never committed."""
    if not SHARED_VECTORS.is_dir():
        pytest.skip(f"genuine vectors are absent: {SHARED_VECTORS.name} directory not found beside the repository")
    return SHARED_VECTORS
