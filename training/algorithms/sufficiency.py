"""Whether labels carry a policy: one rule for the page that starts a run and for the process that trains it."""

LEAST = 2.0
"""Times the ridge, in the direction that is known least."""


def is_deficient(smallest_eigenvalue: float, *, ridge: float) -> bool:
    """True where some direction of the reward is known from the prior rather than from people.

    H >= ridge I always: a direction with less than `LEAST` times the ridge has hardly any label in it, and a policy
    trained now would rest on the prior there.

    smallest_eigenvalue  of H (M4) at the rationalities of the fit, also where these are estimated: what is left of H
                         after not knowing them (M10) stays small along theta however many labels come, since the
                         prior alone fixes the scale. That is no fault of the design, and the bounds pay for it
    """
    return smallest_eigenvalue < LEAST * ridge
