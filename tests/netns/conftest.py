"""What stands for processes, backends and answers is that of the tests against a real Envoy."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "envoy"))
