"""The boards: built from the catalogue, with InfluxQL only, in English or Simplified Chinese."""
