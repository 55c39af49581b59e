"""The HTTP server: the app with every slice's routes (`app`), its limits, its one shape of error (`answers`)."""
