"""The benchmark: our steps beside those of other libraries, in one run."""
