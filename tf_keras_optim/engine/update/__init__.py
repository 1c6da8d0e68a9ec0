"""One update of one variable: plans, and what runs them."""
