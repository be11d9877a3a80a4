"""Mixed-precision search: space, sensitivities, cost models, solvers, store, measurement."""
