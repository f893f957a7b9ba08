"""The tuner as a person sees it."""
