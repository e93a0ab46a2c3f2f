"""How many examples a law is tried with: HYPOTHESIS_PROFILE is quick, ci or thorough."""

import os

from hypothesis import HealthCheck, settings

SCALES = {"quick": 0.1, "ci": 0.2, "thorough": 10.0}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")

for name, scale in SCALES.items():
    settings.register_profile(
        name,
        max_examples=round(100 * scale),
        deadline=None,
        # Fixtures here are made to be used by all examples of a law.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
settings.load_profile(PROFILE)


def examples(count):
    """How many examples the chosen profile tries of *count*."""
    return max(1, round(count * SCALES[PROFILE]))
