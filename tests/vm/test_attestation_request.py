"""A running enclave is asked what it is: ``cloister attestation request`` against examples/hello."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloister.attestation import STEPS
from simulators.nitro_host import NitroHost

pytestmark = pytest.mark.vm

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
