//! Delta tables that are right after any kill.
