//! Tests over real sockets and real processes.

mod connecting;
mod processes;
mod tls;
