"""What `tellerline verify` proves: pure checks that read lines, all SQL in `store`, their order in `proof`."""
