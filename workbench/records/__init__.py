"""Records as they come: files, streams, ids on the hub; below every corpus."""
