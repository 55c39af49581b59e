"""Where a job's series go besides the database: `mirror` forwards them, one file a logger takes them in."""
