//! Settings: `config.toml` of the state directory and `machine.toml` of each machine.
