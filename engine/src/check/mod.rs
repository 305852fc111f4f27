//! From parsed steps to a checked graph, with every mistake at once.
