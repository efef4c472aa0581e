"""`python -m tests.fakes.migrate`: a migration that has nothing to do."""
