"""Results side by side: tables, verdicts, quality against cost, short trainings."""
