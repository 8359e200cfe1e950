"""The simulated world: servers, links, clients with the production core, faults, and the record of a run."""
