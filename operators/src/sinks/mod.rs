//! Where rows end.
