"""Draw the map, find clusters and neighbours, and write the page people look at."""
