"""Values for fields of a spec that are absent, as written there; the fields of a destination type have theirs beside its spec.

They are policy and stay out of the schema, so that a later version may choose others.
"""

from __future__ import annotations

from typing import Literal

SEND_RESOLVED = True
MAX_AGE = "72h"
OUTSIDE_TIMES: Literal["wait", "drop"] = "wait"
