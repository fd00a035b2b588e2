"""What operators ask of a mirror, from anywhere: it reads the clusters, and needs no mirror process to answer."""
