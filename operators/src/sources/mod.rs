//! Where rows begin.
