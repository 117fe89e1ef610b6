"""Where the repository and its demo models lie."""

from __future__ import annotations

from pathlib import Path

import hpc_bench

REPOSITORY = Path(__file__).parents[2]
TINY = Path(hpc_bench.__file__).parent / "demo" / "tiny-2l"
"""The smallest demo model."""
