"""The search benchmark: exhausted tables, methods that replay them, and what may be concluded."""
