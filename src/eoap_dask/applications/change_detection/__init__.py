"""change-detection: what changed from year to year, cell by cell."""
