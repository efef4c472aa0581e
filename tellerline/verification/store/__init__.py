"""All SQL of `verify`, over one snapshot of the journal, which may grow meanwhile. Everything is read as a stream."""
