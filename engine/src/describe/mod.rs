//! Documentation and schemas, derived from the registry.
