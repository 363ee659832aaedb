"""A dress rehearsal: simulated teachers answer through the real pages, and the curve is looked at after."""
