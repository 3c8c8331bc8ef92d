"""Speech recognisers, one file for each library."""
