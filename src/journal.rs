//! The local durable log; the only place that names sled.
