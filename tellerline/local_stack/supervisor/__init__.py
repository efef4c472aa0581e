"""Runs one stack: private servers, migrations and services, from one data dir, until told to stop."""
