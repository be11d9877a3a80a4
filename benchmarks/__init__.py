"""The benches: real models and data, peers, and the tables that the README shows."""
