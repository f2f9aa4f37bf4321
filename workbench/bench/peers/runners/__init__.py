"""Scripts, one a contestant; run by path, by an interpreter that need not have this package."""
